/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * headers.h - reads any packet, header by header: IPv4 with options and in fragments, IPv6 with
 * extension headers, TCP, UDP, ICMP and what is inside an ICMP error. What cannot be judged has a
 * name and is never passed unread.
 *
 * Source: RFC 791, RFC 8200, RFC 4443, RFC 792.
 */
#pragma once
#include "lib/fragment.h"
#include "lib/packet.h"

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET	  0x1fff

/* IPv6 extension headers that are followed: one of each kind of RFC 8200 and some to spare. */
#define HEADERS_MAX 8

#define HEADER_HOP_BY_HOP   0
#define HEADER_ROUTING	    43
#define HEADER_FRAGMENT	    44
#define HEADER_AUTHENTICATE 51
#define HEADER_OPTIONS	    60
#define PROTOCOL_SCTP	    132

/* What remains to be read. */
struct cursor {
	struct fragment fragment;
	__u32 at;  /* bytes from the start of the frame */
	__u32 end; /* where the (outer) IP packet ends */
	__u8 protocol;
	__u8 is_inner; /* inside an ICMP error, where no more than eight bytes need follow */
	__u8 hop_limit;
	__u8 pad;
};

static __always_inline enum malla_verdict
headers_read_ip4(struct __sk_buff *skb, struct cursor *cursor, struct packet *packet)
{
	struct iphdr ip4;
	__u32 header;
	__u32 length;

	if (bpf_skb_load_bytes(skb, cursor->at, &ip4, sizeof(ip4)))
		return MALLA_VERDICT_MALFORMED;
	header = (__u32)ip4.ihl * 4;
	length = bpf_ntohs(ip4.tot_len);
	/* More than 64 KiB at once (BIG TCP) has no length. */
	if (!length && skb->gso_size)
		length = skb->len - cursor->at;
	if (ip4.version != 4 || header < sizeof(ip4) || length < header)
		return MALLA_VERDICT_MALFORMED;
	if (!cursor->is_inner) {
		if (length > skb->len - cursor->at)
			return MALLA_VERDICT_MALFORMED;
		cursor->end = cursor->at + length;
	}
	address_from_ip4(&packet->flow.source, ip4.saddr);
	address_from_ip4(&packet->flow.target, ip4.daddr);
	cursor->at += header;
	cursor->protocol = ip4.protocol;
	cursor->hop_limit = ip4.ttl;
	cursor->fragment.id_be = ip4.id;
	cursor->fragment.offset = bpf_ntohs(ip4.frag_off) & IP_OFFSET;
	cursor->fragment.has_more = (ip4.frag_off & bpf_htons(IP_MORE_FRAGMENTS)) != 0;
	return MALLA_VERDICT_PASS;
}

/* One extension header; 0 bytes in `length`: the next one is no extension. */
static __always_inline enum malla_verdict
headers_read_extension(struct __sk_buff *skb, struct cursor *cursor, __u32 *length)
{
	__u8 bytes[8];

	*length = 0;
	if (cursor->protocol != HEADER_HOP_BY_HOP && cursor->protocol != HEADER_ROUTING &&
	    cursor->protocol != HEADER_FRAGMENT && cursor->protocol != HEADER_AUTHENTICATE &&
	    cursor->protocol != HEADER_OPTIONS)
		return MALLA_VERDICT_PASS;
	if (bpf_skb_load_bytes(skb, cursor->at, bytes, sizeof(bytes)))
		return cursor->fragment.has_more ? MALLA_VERDICT_FRAGMENT_SHORT
						 : MALLA_VERDICT_MALFORMED;
	if (cursor->protocol == HEADER_FRAGMENT) {
		__u16 field = (__u16)(bytes[2] << 8 | bytes[3]);

		cursor->fragment.offset = field >> 3;
		cursor->fragment.has_more = field & 1;
		__builtin_memcpy(&cursor->fragment.id_be, bytes + 4, 4);
		*length = 8;
	} else if (cursor->protocol == HEADER_AUTHENTICATE) {
		*length = ((__u32)bytes[1] + 2) * 4;
	} else {
		*length = ((__u32)bytes[1] + 1) * 8;
	}
	/* On its way to somewhere that the header does not say yet. */
	if (cursor->protocol == HEADER_ROUTING && bytes[3])
		return MALLA_VERDICT_MALFORMED;
	cursor->protocol = bytes[0];
	return MALLA_VERDICT_PASS;
}

static __always_inline enum malla_verdict
headers_read_ip6(struct __sk_buff *skb, struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr ip6;
	enum malla_verdict verdict;
	__u32 length;

	if (bpf_skb_load_bytes(skb, cursor->at, &ip6, sizeof(ip6)) || ip6.version != 6)
		return MALLA_VERDICT_MALFORMED;
	length = bpf_ntohs(ip6.payload_len) + (__u32)sizeof(ip6);
	if (!ip6.payload_len && skb->gso_size)
		length = skb->len - cursor->at;
	if (!cursor->is_inner) {
		if (length > skb->len - cursor->at)
			return MALLA_VERDICT_MALFORMED;
		cursor->end = cursor->at + length;
	}
	__builtin_memcpy(&packet->flow.source, &ip6.saddr, sizeof(packet->flow.source));
	__builtin_memcpy(&packet->flow.target, &ip6.daddr, sizeof(packet->flow.target));
	cursor->at += sizeof(ip6);
	cursor->protocol = ip6.nexthdr;
	cursor->hop_limit = ip6.hop_limit;
	for (int header = 0; header < HEADERS_MAX; header++) {
		verdict = headers_read_extension(skb, cursor, &length);
		if (verdict != MALLA_VERDICT_PASS || !length)
			return verdict;
		cursor->at += length;
		if (cursor->fragment.offset)
			return MALLA_VERDICT_PASS;
	}
	verdict = headers_read_extension(skb, cursor, &length);
	return verdict == MALLA_VERDICT_PASS && length ? MALLA_VERDICT_HEADERS_TOO_MANY : verdict;
}

static __always_inline enum malla_verdict
headers_read_ip(struct __sk_buff *skb, struct cursor *cursor, struct packet *packet)
{
	enum malla_verdict verdict = skb->protocol == bpf_htons(ETH_P_IP)
					 ? headers_read_ip4(skb, cursor, packet)
					 : headers_read_ip6(skb, cursor, packet);

	packet->flow.protocol = cursor->protocol;
	packet->transport = cursor->at;
	return verdict;
}

/* What a header that does not fit is called. */
static __always_inline enum malla_verdict headers_short(const struct cursor *cursor)
{
	return cursor->fragment.has_more ? MALLA_VERDICT_FRAGMENT_SHORT : MALLA_VERDICT_MALFORMED;
}

static __always_inline enum malla_verdict
headers_read_tcp(struct __sk_buff *skb, const struct cursor *cursor, struct packet *packet)
{
	struct packet_tcp tcp;

	if (cursor->at + sizeof(tcp) > cursor->end ||
	    bpf_skb_load_bytes(skb, cursor->at, &tcp, sizeof(tcp)))
		return headers_short(cursor);
	if (!packet_take_tcp(packet, &tcp))
		return MALLA_VERDICT_MALFORMED;
	return cursor->at + (__u32)(tcp.offset >> 4) * 4 > cursor->end ? headers_short(cursor)
								       : MALLA_VERDICT_PASS;
}

/* DHCP asks before it has an address. */
static __always_inline int headers_are_dhcp(const struct packet *packet)
{
	const struct malla_flow_key *flow = &packet->flow;

	if (flow->target_port_be == bpf_htons(67) && flow->source_port_be == bpf_htons(68))
		return address_is_unspecified(&flow->source);
	return flow->target_port_be == bpf_htons(547) && flow->source_port_be == bpf_htons(546) &&
	       address_is_link_local(&flow->source);
}

static __always_inline enum malla_verdict
headers_read_udp(struct __sk_buff *skb, const struct cursor *cursor, struct packet *packet)
{
	__u16 udp_be[4];
	__u32 length;

	if (cursor->at + sizeof(udp_be) > cursor->end ||
	    bpf_skb_load_bytes(skb, cursor->at, udp_be, sizeof(udp_be)))
		return headers_short(cursor);
	packet->flow.source_port_be = udp_be[0];
	packet->flow.target_port_be = udp_be[1];
	length = bpf_ntohs(udp_be[2]);
	if (length < sizeof(udp_be) ||
	    (!cursor->fragment.has_more && !skb->gso_size && cursor->at + length > cursor->end))
		return MALLA_VERDICT_MALFORMED;
	return headers_are_dhcp(packet) ? MALLA_VERDICT_LINK_LOCAL : MALLA_VERDICT_PASS;
}

/* The tuple of the packet inside an error, of which ports are all that is needed. */
static __always_inline void headers_read_inner(struct __sk_buff *skb, struct cursor *cursor,
					       struct packet *packet)
{
	struct malla_flow_key outer = packet->flow;
	struct cursor inner = {.at = cursor->at + 8, .is_inner = 1};
	__u16 words_be[4];

	if (headers_read_ip(skb, &inner, packet) != MALLA_VERDICT_PASS || inner.fragment.offset ||
	    bpf_skb_load_bytes(skb, inner.at, words_be, sizeof(words_be)))
		goto unknown;
	if (inner.protocol == IPPROTO_TCP || inner.protocol == IPPROTO_UDP) {
		packet->flow.source_port_be = words_be[0];
		packet->flow.target_port_be = words_be[1];
	} else if (inner.protocol == IPPROTO_ICMP || inner.protocol == ICMPV6) {
		__u8 type = *(__u8 *)words_be;

		/* Its identifier belongs to the end that asks. */
		if (type == 8 || type == 128)
			packet->flow.source_port_be = words_be[2];
		else if (type == 0 || type == 129)
			packet->flow.target_port_be = words_be[2];
	}
	packet->flow = flow_reversed(&packet->flow);
	packet->is_icmp = 1;
	return;
unknown:
	packet->flow = outer;
	packet->transport = cursor->at;
}

/* Neighbour discovery and multicast listeners, which never leave a link. RFC 4861, RFC 3810. */
static __always_inline int headers_are_link_local(const struct cursor *cursor, __u8 type)
{
	if (type >= 133 && type <= 137)
		return cursor->hop_limit == 255;
	return ((type >= 130 && type <= 132) || type == 143) && cursor->hop_limit == 1;
}

/* Replies: to an echo, and to what asks for a time, an address or a name. RFC 792, 950, 4620. */
static __always_inline __u8 headers_are_answer(int is_6, __u8 type)
{
	if (is_6)
		return type == 129 || type == 140;
	return type == 0 || type == 14 || type == 16 || type == 18;
}

static __always_inline enum malla_verdict
headers_read_icmp(struct __sk_buff *skb, struct cursor *cursor, struct packet *packet)
{
	int is_6 = cursor->protocol == ICMPV6;
	__u16 words_be[4];
	__u8 type;

	/* The other family's is a protocol like any other: neither errors nor discovery here. */
	if (is_6 == (skb->protocol == bpf_htons(ETH_P_IP)))
		return MALLA_VERDICT_PASS;
	if (cursor->at + sizeof(words_be) > cursor->end ||
	    bpf_skb_load_bytes(skb, cursor->at, words_be, sizeof(words_be)))
		return headers_short(cursor);
	type = *(__u8 *)words_be;
	packet->icmp_type = type;
	if (type == (is_6 ? 128 : 8))
		packet->flow.source_port_be = words_be[2];
	if (type == (is_6 ? 129 : 0))
		packet->flow.target_port_be = words_be[2];
	packet->is_answer = headers_are_answer(is_6, type);
	/* IPv4: unreachable, time exceeded, parameter problem; IPv6: all that are errors. */
	if (is_6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12)
		headers_read_inner(skb, cursor, packet);
	return is_6 && headers_are_link_local(cursor, type) ? MALLA_VERDICT_LINK_LOCAL
							    : MALLA_VERDICT_PASS;
}

static __always_inline enum malla_verdict
headers_read_transport(struct __sk_buff *skb, struct cursor *cursor, struct packet *packet)
{
	switch (cursor->protocol) {
	case IPPROTO_TCP:
		return headers_read_tcp(skb, cursor, packet);
	case IPPROTO_UDP:
		return headers_read_udp(skb, cursor, packet);
	case IPPROTO_ICMP:
	case ICMPV6:
		return headers_read_icmp(skb, cursor, packet);
	case PROTOCOL_SCTP:
		return MALLA_VERDICT_SCTP;
	default:
		return MALLA_VERDICT_PASS;
	}
}

/*
 * PASS: `packet` is filled. LINK_LOCAL: that, and it belongs to the link. Anything else is why it
 * cannot be judged. A function of its own for the verifier: hooks share what it proves.
 */
__attribute__((noinline)) int headers_read(struct __sk_buff *skb, struct packet *packet)
{
	struct cursor cursor = {};
	enum malla_verdict verdict;

	if (!packet)
		return MALLA_VERDICT_FAILED;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return skb->protocol == bpf_htons(ETH_P_ARP) ? MALLA_VERDICT_LINK_LOCAL
							     : MALLA_VERDICT_NOT_IP;
	packet->flow.source_port_be = 0;
	packet->flow.target_port_be = 0;
	packet->flags = 0;
	cursor.at = packet->network;
	verdict = headers_read_ip(skb, &cursor, packet);
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	if (cursor.fragment.offset)
		return cursor.protocol == PROTOCOL_SCTP ? MALLA_VERDICT_SCTP
							: fragment_follow(packet, &cursor.fragment);
	verdict = headers_read_transport(skb, &cursor, packet);
	if (verdict == MALLA_VERDICT_PASS && cursor.fragment.has_more)
		fragment_record(packet, &cursor.fragment);
	return verdict;
}

/* Reads the packet whose IP header is at `network`; answers as `headers_read` does. */
static __always_inline enum malla_verdict packet_read(struct __sk_buff *skb, __u32 network,
						      struct packet *packet)
{
	packet->network = network;
	packet->bytes = skb->len - network;
	packet->segments = skb->gso_segs ? skb->gso_segs : 1;
	if (packet_read_common(skb, packet))
		return MALLA_VERDICT_PASS;
	return (enum malla_verdict)headers_read(skb, packet);
}

/* Of an ICMP error: who sends it and to whom. The packet inside it is forgotten. */
__attribute__((noinline)) int headers_read_outer(struct __sk_buff *skb, struct packet *packet)
{
	struct cursor cursor = {};

	if (!packet)
		return MALLA_VERDICT_FAILED;
	cursor.at = packet->network;
	packet->flow.source_port_be = 0;
	packet->flow.target_port_be = 0;
	packet->is_icmp = 0;
	return headers_read_ip(skb, &cursor, packet);
}
