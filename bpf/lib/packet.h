/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * packet.h - what a hook needs of a packet: its tuple. TCP and UDP have their own; an echo is known
 * by its identifier; an ICMP error by the tuple that an answer to the packet inside it would have,
 * because whoever receives those answers is whom the error concerns; all else by its addresses.
 *
 * The common shapes (IPv4 without options and IPv6 without extension headers, TCP) are read here in
 * a few instructions; headers.h reads every other.
 */
#pragma once
#include "lib/kernel.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Ports from which Linux dials by default begin here. Source: ip_local_port_range. */
#define DIALLING_PORT_MIN 32768

struct packet {
	struct malla_flow_key flow; /* as the packet bears it */
	__u32 network;		    /* offset of the IP header, bytes */
	__u32 transport;	    /* offset of the (inner) transport header, bytes */
	__u32 bytes;		    /* from the IP header on */
	__u32 segments;		    /* packets that the network will see */
	__u8 flags;		    /* of TCP; 0 for an ICMP error */
	__u8 is_icmp;		    /* an ICMP error: `flow` is of what it is about */
	__u8 icmp_type;
	__u8 is_answer;	  /* a reply of ICMP, which opens nothing */
	__u8 is_fragment; /* a later one: there is no transport header in it */
	__u8 hook;	  /* that meets it: enum malla_hook */
	__u16 marks;	  /* MALLA_FLOW_*, of the flow that it opens */
	__u32 interface;  /* of the pod whose socket dials, where there is no packet yet; else 0 */
};

/* A frame of a VLAN: it came for, or from, the device of that VLAN, and this is the one below it.
 */
static __always_inline int packet_is_tagged(const struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & 0xfff;
}

/* A frame that came by and is not for this interface: the stack drops it. 3 is PACKET_OTHERHOST. */
static __always_inline int packet_is_anothers(const struct __sk_buff *skb)
{
	return packet_is_tagged(skb) || skb->pkt_type == 3;
}

/* A connection's first packet: SYN without ACK. */
static __always_inline int packet_opens(const struct packet *packet)
{
	return (packet->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* A message of ICMP that answers nothing: a question, or an error about nothing that is known. */
static __always_inline int packet_asks(const struct packet *packet)
{
	return (packet->flow.protocol == IPPROTO_ICMP || packet->flow.protocol == ICMPV6) &&
	       !packet->is_icmp && !packet->is_answer;
}

static __always_inline int packet_from_engine_port(const struct packet *packet)
{
	return bpf_ntohs(packet->flow.source_port_be) >= MALLA_ENGINE_PORT_MIN;
}

/*
 * Whether a packet without a flow may belong to one that somebody else has begun, and knows more
 * of: the node's own NAT, for one, whose answers must come back by the node's stack.
 */
static __always_inline int packet_continues(const struct packet *packet)
{
	if (packet->flow.protocol == IPPROTO_TCP)
		return !packet_opens(packet);
	return packet->is_answer || (bpf_ntohs(packet->flow.source_port_be) < DIALLING_PORT_MIN &&
				     bpf_ntohs(packet->flow.target_port_be) >= DIALLING_PORT_MIN);
}

static __always_inline struct malla_flow_key flow_reversed(const struct malla_flow_key *flow)
{
	struct malla_flow_key back = {
	    .source = flow->target,
	    .target = flow->source,
	    .source_port_be = flow->target_port_be,
	    .target_port_be = flow->source_port_be,
	    .protocol = flow->protocol,
	};

	return back;
}

/* The same for a tuple on every node; spread well enough to choose among a few. */
static __always_inline __u32 flow_hash(const struct malla_flow_key *flow)
{
	__u32 hash = flow->source.words_be[0] ^ flow->source.words_be[1] ^
		     flow->source.words_be[2] ^ flow->source.words_be[3];

	hash = hash * 0x9e3779b1u + flow->target.words_be[3];
	hash = hash * 0x9e3779b1u + ((__u32)flow->source_port_be << 16 | flow->target_port_be);
	hash ^= hash >> 16;
	hash *= 0x85ebca6bu; /* MurmurHash3's finaliser */
	return hash ^ hash >> 13;
}

static __always_inline struct malla_end flow_target(const struct malla_flow_key *flow)
{
	struct malla_end end = {
	    .address = flow->target,
	    .port_be = flow->target_port_be,
	    .protocol = flow->protocol,
	};

	return end;
}

static __always_inline void address_from_ip4(struct malla_address *address, __u32 ip4_be)
{
	address->words_be[0] = 0;
	address->words_be[1] = 0;
	address->words_be[2] = bpf_htonl(0xffff);
	address->words_be[3] = ip4_be;
}

static __always_inline int address_is_equal(const struct malla_address *left,
					    const struct malla_address *right)
{
	return left->words_be[3] == right->words_be[3] && left->words_be[2] == right->words_be[2] &&
	       left->words_be[1] == right->words_be[1] && left->words_be[0] == right->words_be[0];
}

static __always_inline int end_is_equal(const struct malla_end *left, const struct malla_end *right)
{
	return left->port_be == right->port_be && left->protocol == right->protocol &&
	       address_is_equal(&left->address, &right->address);
}

static __always_inline int flow_is_equal(const struct malla_flow_key *left,
					 const struct malla_flow_key *right)
{
	return left->source_port_be == right->source_port_be &&
	       left->target_port_be == right->target_port_be &&
	       address_is_equal(&left->source, &right->source) &&
	       address_is_equal(&left->target, &right->target);
}

/* fe80::/10 */
static __always_inline int address_is_link_local(const struct malla_address *address)
{
	return (address->words_be[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline int address_is_unspecified(const struct malla_address *address)
{
	__u32 prefix = address->words_be[2];

	return !address->words_be[0] && !address->words_be[1] && !address->words_be[3] &&
	       (!prefix || prefix == bpf_htonl(0xffff));
}

/* The bytes of a TCP header that the programs read. */
struct packet_tcp {
	__u16 source_port_be;
	__u16 target_port_be;
	__u32 sequence_be[2];
	__u8 offset; /* in its upper half: 32-bit words of the header */
	__u8 flags;
	__u16 rest[3];
};

/* 0: not a header that TCP may send. */
static __always_inline int packet_take_tcp(struct packet *packet, const struct packet_tcp *tcp)
{
	packet->flow.source_port_be = tcp->source_port_be;
	packet->flow.target_port_be = tcp->target_port_be;
	packet->flags = tcp->flags;
	return tcp->offset >= 0x50 &&
	       (!(tcp->flags & TCP_SYN) || !(tcp->flags & (TCP_FIN | TCP_RST)));
}

/* 1: read; 0: one for `headers_read`, which names what is wrong with it, if anything is. */
static __always_inline int packet_read_common(struct __sk_buff *skb, struct packet *packet)
{
	const void *start = (const void *)(long)skb->data + packet->network;
	const void *end = (const void *)(long)skb->data_end;
	const struct packet_tcp *tcp;
	__u32 length;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		const struct iphdr *ip4 = start;

		tcp = start + sizeof(*ip4);
		if ((const void *)(tcp + 1) > end || *(const __u8 *)start != 0x45 ||
		    ip4->protocol != IPPROTO_TCP || ip4->frag_off & bpf_htons(0x3fff))
			return 0;
		length = bpf_ntohs(ip4->tot_len);
		packet->transport = packet->network + sizeof(*ip4);
		address_from_ip4(&packet->flow.source, ip4->saddr);
		address_from_ip4(&packet->flow.target, ip4->daddr);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip6 = start;

		tcp = start + sizeof(*ip6);
		if ((const void *)(tcp + 1) > end || *(const __u8 *)start >> 4 != 6 ||
		    ip6->nexthdr != IPPROTO_TCP)
			return 0;
		length = bpf_ntohs(ip6->payload_len) + (__u32)sizeof(*ip6);
		packet->transport = packet->network + sizeof(*ip6);
		__builtin_memcpy(&packet->flow.source, &ip6->saddr, sizeof(packet->flow.source));
		__builtin_memcpy(&packet->flow.target, &ip6->daddr, sizeof(packet->flow.target));
	} else {
		return 0;
	}
	packet->flow.protocol = IPPROTO_TCP;
	return packet_take_tcp(packet, tcp) &&
	       length >= packet->transport - packet->network + (__u32)(tcp->offset >> 4) * 4 &&
	       length <= skb->len - packet->network;
}
