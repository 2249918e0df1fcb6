/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * refuse.h - turns a packet that cannot be served into its answer: a reset for TCP, an ICMP error
 * for all else. A client learns at once, instead of waiting until it gives up.
 */
#pragma once
#include "lib/packet.h"

#define REFUSE_HOPS 64

/* Instead of an MTU: the packet may go no further. */
#define REFUSE_EXPIRED 1

/* The answer's ICMP header; 0 in `mtu_be`: nobody listens there. */
struct refuse_icmp {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 mtu_be;
};

/* A bare TCP header. */
struct refuse_tcp {
	__u16 source_port_be;
	__u16 target_port_be;
	__u32 sequence_be;
	__u32 acknowledged_be;
	__u8 offset;
	__u8 flags;
	__u16 window;
	__u16 checksum;
	__u16 urgent;
};

static __always_inline __u16 refuse_fold(__s64 sum)
{
	__u32 folded = (__u32)sum;

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return (__u16)~folded;
}

/* The sum of IPv4's or IPv6's pseudo header, which both families make of the same fields. */
static __always_inline __s64 refuse_pseudo(const struct malla_flow_key *flow, __u32 length,
					   __u32 protocol)
{
	__u32 rest[2] = {bpf_htonl(length), bpf_htonl(protocol)};
	/* The prefix of an IPv4-mapped address is in both, and taken out again. */
	__u32 mapped[2] = {bpf_htonl(0xffff), bpf_htonl(0xffff)};
	__s64 sum = bpf_csum_diff(0, 0, (__be32 *)&flow->source, 32, 0);

	sum = bpf_csum_diff(0, 0, rest, sizeof(rest), (__u32)sum);
	if (!flow->source.words_be[0] && !flow->source.words_be[1] &&
	    flow->source.words_be[2] == bpf_htonl(0xffff))
		sum = bpf_csum_diff(mapped, sizeof(mapped), 0, 0, (__u32)sum);
	return sum;
}

/*
 * Writes the IP header of the answer: from whom the packet was for to whom it came from.
 * `is_onward`: of what goes on, instead.
 */
static __always_inline long refuse_write_ip(struct __sk_buff *skb, const struct packet *packet,
					    __u32 length, __u8 protocol, int is_onward)
{
	const struct malla_flow_key *flow = &packet->flow;
	const struct malla_address *source = is_onward ? &flow->source : &flow->target;
	const struct malla_address *target = is_onward ? &flow->target : &flow->source;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip4 = {
		    .version = 4,
		    .ihl = 5,
		    .tot_len = bpf_htons((__u16)(sizeof(ip4) + length)),
		    .frag_off = bpf_htons(0x4000),
		    .ttl = REFUSE_HOPS,
		    .protocol = protocol,
		    .saddr = source->words_be[3],
		    .daddr = target->words_be[3],
		};

		ip4.check = refuse_fold(bpf_csum_diff(0, 0, (__be32 *)&ip4, sizeof(ip4), 0));
		return bpf_skb_store_bytes(skb, packet->network, &ip4, sizeof(ip4), 0);
	} else {
		struct ipv6hdr ip6 = {
		    .version = 6,
		    .payload_len = bpf_htons((__u16)length),
		    .nexthdr = protocol,
		    .hop_limit = REFUSE_HOPS,
		};

		__builtin_memcpy(&ip6.saddr, source, sizeof(ip6.saddr));
		__builtin_memcpy(&ip6.daddr, target, sizeof(ip6.daddr));
		return bpf_skb_store_bytes(skb, packet->network, &ip6, sizeof(ip6), 0);
	}
}

static __always_inline __u32 refuse_ip_bytes(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* The frame's addresses the other way round; a device without a link has none. */
static __always_inline long refuse_turn(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 macs[2 * ETH_ALEN];

	if (packet->network < sizeof(struct ethhdr))
		return 0;
	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	return bpf_skb_store_bytes(skb, 0, macs + ETH_ALEN, ETH_ALEN, 0) ||
	       bpf_skb_store_bytes(skb, ETH_ALEN, macs, ETH_ALEN, 0);
}

/* Verdicts after which the sender is told at once. */
static __always_inline int refuse_answers(const struct packet *packet, enum malla_verdict verdict)
{
	if (verdict == MALLA_VERDICT_CUT)
		return packet->flow.protocol == IPPROTO_TCP;
	return verdict == MALLA_VERDICT_NO_ENDPOINT || verdict == MALLA_VERDICT_ENGINE_REFUSED ||
	       verdict == MALLA_VERDICT_PLAIN_REFUSED || verdict == MALLA_VERDICT_SNAT_PORTS;
}

/*
 * Makes the packet a segment of TCP without data: an answer, or one that goes on. The checksum is
 * written by halves: of what a pod sends the kernel may have left the segment's own half to the
 * device that the packet leaves by.
 */
static __always_inline long refuse_write_tcp(struct __sk_buff *skb, const struct packet *packet,
					     struct refuse_tcp *tcp, int is_onward)
{
	const struct malla_flow_key *flow = &packet->flow;
	__u32 at = packet->network + refuse_ip_bytes(skb);
	__u32 checksum = at + __builtin_offsetof(struct refuse_tcp, checksum);
	__u32 addresses;
	__s64 rest;

	tcp->source_port_be = is_onward ? flow->source_port_be : flow->target_port_be;
	tcp->target_port_be = is_onward ? flow->target_port_be : flow->source_port_be;
	tcp->offset = 0x50;
	tcp->window = 0;
	tcp->checksum = 0;
	tcp->urgent = 0;
	addresses = (__u32)refuse_pseudo(flow, sizeof(*tcp), IPPROTO_TCP);
	rest = bpf_csum_diff(0, 0, (__be32 *)tcp, sizeof(*tcp), 0);
	tcp->checksum = 0xffff; /* the sum of nothing */
	return bpf_skb_change_tail(skb, at + sizeof(*tcp), 0) ||
	       refuse_write_ip(skb, packet, sizeof(*tcp), IPPROTO_TCP, is_onward) ||
	       bpf_skb_store_bytes(skb, at, tcp, sizeof(*tcp), 0) ||
	       bpf_l4_csum_replace(skb, checksum, 0, (__u32)rest, 0) ||
	       bpf_l4_csum_replace(skb, checksum, 0, addresses, BPF_F_PSEUDO_HDR);
}

/* RFC 9293, 3.10.7.1: a connection that does not exist. A reset is not
 * answered. */
static __always_inline long refuse_reset(struct __sk_buff *skb, const struct packet *packet)
{
	struct refuse_tcp tcp;

	if (bpf_skb_load_bytes(skb, packet->transport, &tcp, sizeof(tcp)))
		return -1;
	if (packet->flags & TCP_RST)
		return -1;
	if (packet->flags & TCP_ACK) {
		tcp.sequence_be = tcp.acknowledged_be;
		tcp.acknowledged_be = 0;
		tcp.flags = TCP_RST;
	} else {
		tcp.acknowledged_be = bpf_htonl(bpf_ntohl(tcp.sequence_be) + 1);
		tcp.sequence_be = 0;
		tcp.flags = TCP_RST | TCP_ACK;
	}
	return refuse_write_tcp(skb, packet, &tcp, 0);
}

/* Whether a connection that is open ends by this verdict. */
static __always_inline int refuse_ends(const struct packet *packet, enum malla_verdict verdict)
{
	return (verdict == MALLA_VERDICT_CUT || verdict == MALLA_VERDICT_PLAIN_REFUSED) &&
	       packet->flow.protocol == IPPROTO_TCP && !packet->is_icmp &&
	       !(packet->flags & (TCP_SYN | TCP_RST));
}

/*
 * Of a connection that may not go on: whom the packet is for is reset, too. The packet's numbers
 * are those of its sender, and so it becomes the sender's own reset; a copy comes in once more
 * where the packet has, and takes the way of any other. The packet itself is then to be refused.
 * For the verifier.
 */
__attribute__((noinline)) int refuse_onward(struct __sk_buff *skb, struct packet *packet)
{
	struct refuse_tcp tcp;
	__u32 at;

	if (!packet)
		return -1;
	at = packet->network + refuse_ip_bytes(skb);
	/* Behind options the kernel would write a checksum that is still due into the wrong place.
	 */
	if (packet->transport != at || bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp)))
		return -1;
	tcp.flags = TCP_RST | (packet->flags & TCP_ACK);
	if (refuse_write_tcp(skb, packet, &tcp, 1))
		return -1;
	return (int)bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
}

/* Quotes the packet's IP header (without options) and the first eight bytes after it. */
static __always_inline long refuse_error(struct __sk_buff *skb, const struct packet *packet,
					 __u32 mtu)
{
	int is_ip4 = skb->protocol == bpf_htons(ETH_P_IP);
	__u32 header = refuse_ip_bytes(skb);
	__u32 at = packet->network + header;
	__u32 length = 8 + header + 8;
	__u8 quoted[sizeof(struct ipv6hdr) + 8] = {};
	int is_expired = mtu == REFUSE_EXPIRED;
	struct refuse_icmp icmp = {.mtu_be = is_expired ? 0 : bpf_htonl(mtu)};
	__s64 sum = 0;

	if (is_ip4) {
		icmp.type = is_expired ? 11 : 3;
		icmp.code = is_expired ? 0 : mtu ? 4 : 3;
		if (bpf_skb_load_bytes(skb, packet->network, quoted, sizeof(struct iphdr)) ||
		    bpf_skb_load_bytes(skb, packet->transport, quoted + sizeof(struct iphdr), 8))
			return -1;
	} else {
		icmp.type = is_expired ? 3 : mtu ? 2 : 1;
		icmp.code = mtu ? 0 : 4;
		if (bpf_skb_load_bytes(skb, packet->network, quoted, sizeof(struct ipv6hdr)) ||
		    bpf_skb_load_bytes(skb, packet->transport, quoted + sizeof(struct ipv6hdr), 8))
			return -1;
		sum = refuse_pseudo(&packet->flow, length, ICMPV6);
	}
	sum = bpf_csum_diff(0, 0, (__be32 *)&icmp, sizeof(icmp), (__u32)sum);
	/* Behind IPv4's shorter quotation there are only zeros. */
	sum = bpf_csum_diff(0, 0, (__be32 *)quoted, sizeof(quoted), (__u32)sum);
	icmp.checksum = refuse_fold(sum);
	if (bpf_skb_change_tail(skb, at + length, 0) ||
	    refuse_write_ip(skb, packet, length, is_ip4 ? IPPROTO_ICMP : ICMPV6, 0) ||
	    bpf_skb_store_bytes(skb, at, &icmp, sizeof(icmp), 0))
		return -1;
	return is_ip4 ? bpf_skb_store_bytes(skb, at + 8, quoted, sizeof(struct iphdr) + 8, 0)
		      : bpf_skb_store_bytes(skb, at + 8, quoted, sizeof(quoted), 0);
}

/*
 * Makes the packet its own answer: with `mtu`, that it is too long, with REFUSE_EXPIRED, that its
 * hops are used up; else, that nobody serves it. 0:
 * it is, and is to be sent back where it came from. A function of its own for the verifier.
 */
__attribute__((noinline)) int refuse(struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	long failed;

	if (!packet || packet->is_icmp)
		return -1;
	if (packet->flow.protocol == IPPROTO_TCP && !mtu)
		failed = refuse_reset(skb, packet);
	else
		failed = refuse_error(skb, packet, mtu);
	return failed || refuse_turn(skb, packet) ? -1 : 0;
}
