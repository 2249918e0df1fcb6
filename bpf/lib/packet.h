/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * packet.h - what a hook needs of a packet: its tuple. TCP has its own; an ICMP error about TCP is
 * known by the tuple that an answer to the packet inside it would have, because whoever receives
 * those answers is whom the error concerns.
 *
 * Not read, and so left to whatever comes next: fragments, IPv6 extension headers, other protocols.
 */
#pragma once
#include "lib/kernel.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct packet {
	struct malla_flow_key flow;
	__u32 network;	 /* offset of the IP header, bytes */
	__u32 transport; /* offset of the (inner) TCP header, bytes */
	__u8 flags;	 /* of TCP; 0 for an ICMP error */
	__u8 is_icmp;
};

/* A connection's first packet: SYN without ACK. */
static __always_inline int packet_opens(const struct packet *packet)
{
	return (packet->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline int packet_from_engine_port(const struct packet *packet)
{
	return bpf_ntohs(packet->flow.source_port_be) >= MALLA_ENGINE_PORT_MIN;
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

/* Reads the addresses of the IP header at `at`; answers the protocol after it, 0 if unreadable. */
static __always_inline __u8 packet_read_ip(struct __sk_buff *skb, __u32 *at, int is_inner,
					   struct malla_flow_key *flow)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip4;

		if (bpf_skb_load_bytes(skb, *at, &ip4, sizeof(ip4)))
			return 0;
		/* A fragment has ports only if it is the first; of an inner one that is enough. */
		if (ip4.frag_off & bpf_htons(is_inner ? 0x1fff : 0x3fff))
			return 0;
		address_from_ip4(&flow->source, ip4.saddr);
		address_from_ip4(&flow->target, ip4.daddr);
		*at += (__u32)ip4.ihl * 4;
		return ip4.protocol;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip6;

		if (bpf_skb_load_bytes(skb, *at, &ip6, sizeof(ip6)))
			return 0;
		__builtin_memcpy(&flow->source, &ip6.saddr, sizeof(flow->source));
		__builtin_memcpy(&flow->target, &ip6.daddr, sizeof(flow->target));
		*at += sizeof(ip6);
		return ip6.nexthdr;
	}
	return 0;
}

/* Whether the ICMP or ICMPv6 header at `at` is an error that carries a packet. */
static __always_inline int packet_is_icmp_error(struct __sk_buff *skb, __u32 at, __u8 protocol)
{
	__u8 type;

	if (bpf_skb_load_bytes(skb, at, &type, sizeof(type)))
		return 0;
	if (protocol == IPPROTO_ICMP)
		return type == 3 || type == 11; /* unreachable, time exceeded */
	return type >= 1 && type <= 4;		/* ICMPv6's errors but for redirects */
}

/* Reads the packet whose IP header is at `at`. 0: not one that the programs know. */
static __always_inline int packet_read(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	__u16 ports_be[2];
	__u8 protocol;

	packet->network = at;
	protocol = packet_read_ip(skb, &at, 0, &packet->flow);
	if (protocol == IPPROTO_ICMP || protocol == ICMPV6) {
		if (!packet_is_icmp_error(skb, at, protocol))
			return 0;
		at += 8;
		protocol = packet_read_ip(skb, &at, 1, &packet->flow);
		packet->is_icmp = 1;
	}
	if (protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, at, ports_be, sizeof(ports_be)))
		return 0;
	packet->transport = at;
	packet->flow.protocol = protocol;
	packet->flow.source_port_be = ports_be[0];
	packet->flow.target_port_be = ports_be[1];
	if (packet->is_icmp)
		packet->flow = flow_reversed(&packet->flow);
	else if (bpf_skb_load_bytes(skb, at + 13, &packet->flags, sizeof(packet->flags)))
		return 0;
	return 1;
}
