/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * translate.h - writes another tuple into a packet: its addresses, its ports, every checksum over
 * them. An ICMP error is translated inside, where it quotes a packet of the flow, and outside.
 */
#pragma once
#include "lib/packet.h"
#include "lib/service.h"

/* The sum also tells the kernel what changed of IPv6's pseudo header. Linux 6.16. */
#define CSUM_IPV6 (1ULL << 7)

/* Bytes of a tuple's two addresses, and where they are in the header of each family. */
#define TRANSLATE_ADDRESSES 32

static __always_inline int translate_is_ip4(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP);
}

/* Writes the addresses of `to` into the IP header at `at`, and IPv4's own checksum. */
static __always_inline long translate_ip(struct __sk_buff *skb, __u32 at,
					 const struct malla_address *source,
					 const struct malla_address *target, __s64 difference)
{
	if (translate_is_ip4(skb))
		return bpf_l3_csum_replace(skb, at + 10, 0, (__u64)difference, 0) ||
		       bpf_skb_store_bytes(skb, at + 12, &source->words_be[3], 4, 0) ||
		       bpf_skb_store_bytes(skb, at + 16, &target->words_be[3], 4, 0);
	return bpf_skb_store_bytes(skb, at + 8, source->words_be, 16, 0) ||
	       bpf_skb_store_bytes(skb, at + 24, target->words_be, 16, 0);
}

/* Adds the change of the addresses to the checksum at `at` that covers the pseudo header. */
static __always_inline long translate_pseudo(struct __sk_buff *skb, __u32 at, __s64 difference,
					     __u64 flags)
{
	flags |= BPF_F_PSEUDO_HDR;
	if (!translate_is_ip4(skb) &&
	    !bpf_l4_csum_replace(skb, at, 0, (__u64)difference, flags | CSUM_IPV6))
		return 0;
	return bpf_l4_csum_replace(skb, at, 0, (__u64)difference, flags);
}

/* TCP and UDP. 0: written. */
static __always_inline long translate_segment(struct __sk_buff *skb, const struct packet *packet,
					      const struct malla_flow_key *to)
{
	const struct malla_flow_key *from = &packet->flow;
	__u32 is_udp = from->protocol == IPPROTO_UDP;
	__u32 checksum = packet->transport + (is_udp ? 6 : 16);
	/* A UDP checksum of 0 means none, and stays so. */
	__u64 flags = is_udp ? BPF_F_MARK_MANGLED_0 : 0;
	__s64 difference = bpf_csum_diff((__be32 *)&from->source, TRANSLATE_ADDRESSES,
					 (__be32 *)&to->source, TRANSLATE_ADDRESSES, 0);

	/* A later fragment has addresses only. */
	if (packet->is_fragment)
		return difference < 0 ||
		       translate_ip(skb, packet->network, &to->source, &to->target, difference);
	return difference < 0 || translate_pseudo(skb, checksum, difference, flags) ||
	       bpf_l4_csum_replace(skb, checksum, from->source_port_be, to->source_port_be,
				   flags | 2) ||
	       bpf_l4_csum_replace(skb, checksum, from->target_port_be, to->target_port_be,
				   flags | 2) ||
	       translate_ip(skb, packet->network, &to->source, &to->target, difference) ||
	       bpf_skb_store_bytes(skb, packet->transport, &to->source_port_be, 4, 0);
}

/* Where the packet begins that an ICMP error quotes; 0: not to be found. */
static __always_inline __u32 translate_quoted(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 first;

	if (!translate_is_ip4(skb))
		return packet->transport - sizeof(struct ipv6hdr);
	if (bpf_skb_load_bytes(skb, packet->network, &first, sizeof(first)))
		return 0;
	return packet->network + (__u32)(first & 15) * 4 + 8;
}

/* The outer addresses of an ICMP error, which a router may have sent. */
struct envelope {
	struct malla_address source;
	struct malla_address target;
};

static __always_inline long translate_read_envelope(struct __sk_buff *skb, __u32 at,
						    struct envelope *outer)
{
	if (translate_is_ip4(skb)) {
		__u32 both[2];

		if (bpf_skb_load_bytes(skb, at + 12, both, sizeof(both)))
			return -1;
		address_from_ip4(&outer->source, both[0]);
		address_from_ip4(&outer->target, both[1]);
		return 0;
	}
	return bpf_skb_load_bytes(skb, at + 8, outer, sizeof(*outer));
}

/*
 * An ICMP error is known by the tuple of the answers to what it quotes; so what it quotes has the
 * tuple reversed. The quoted transport checksum is left: nobody checks it. IPv4's quoted header
 * sums up to the same as before, so that of ICMP changes by the ports alone; ICMPv6's covers both
 * pairs of addresses.
 */
static __always_inline long translate_error(struct __sk_buff *skb, const struct packet *packet,
					    const struct malla_flow_key *to)
{
	const struct malla_flow_key *from = &packet->flow;
	__u32 quoted = translate_quoted(skb, packet);
	__u32 icmp = quoted - 8;
	__u32 ports[2] = {(__u32)from->target_port_be | (__u32)from->source_port_be << 16,
			  (__u32)to->target_port_be | (__u32)to->source_port_be << 16};
	struct envelope was, is;
	__s64 inner, outer;

	if (!quoted || translate_read_envelope(skb, packet->network, &was))
		return -1;
	is = was;
	if (address_is_equal(&was.source, &from->source))
		is.source = to->source;
	if (address_is_equal(&was.target, &from->target))
		is.target = to->target;
	inner = bpf_csum_diff((__be32 *)&from->source, TRANSLATE_ADDRESSES, (__be32 *)&to->source,
			      TRANSLATE_ADDRESSES, 0);
	outer = bpf_csum_diff((__be32 *)&was, sizeof(was), (__be32 *)&is, sizeof(is), 0);
	if (inner < 0 || outer < 0)
		return -1;
	if (!translate_is_ip4(skb) && (translate_pseudo(skb, icmp + 2, outer, 0) ||
				       bpf_l4_csum_replace(skb, icmp + 2, 0, (__u64)inner, 0)))
		return -1;
	return bpf_l4_csum_replace(skb, icmp + 2, ports[0], ports[1], 4) ||
	       translate_ip(skb, packet->network, &is.source, &is.target, outer) ||
	       translate_ip(skb, quoted, &to->target, &to->source, inner) ||
	       bpf_skb_store_bytes(skb, packet->transport, &ports[1], 4, 0);
}

/* Writes the tuple `to` over that of `packet`. 0: written, checksums too. */
static __always_inline long translate(struct __sk_buff *skb, const struct packet *packet,
				      const struct malla_flow_key *to)
{
	return packet->is_icmp ? translate_error(skb, packet, to)
			       : translate_segment(skb, packet, to);
}
