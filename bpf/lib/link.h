/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * link.h - neighbour discovery out of a pod: whom it may be sent to. It is for the pod's own link,
 * at whose other end is this node; what the node would route onwards is none of it.
 *
 * Source: RFC 4861, 4.1-4.5.
 */
#pragma once
#include "lib/packet.h"

/* All nodes, all routers, and the solicited node of an address. */
static __always_inline int link_is_group(const struct malla_address *address)
{
	__u32 last = bpf_ntohl(address->words_be[3]);

	if (address->words_be[0] != bpf_htonl(0xff020000) || address->words_be[1])
		return 0;
	if (!address->words_be[2])
		return last == 1 || last == 2;
	return address->words_be[2] == bpf_htonl(1) && last >> 24 == 0xff;
}

/* Whether the packet stays on the link by which it came. For the verifier. */
__attribute__((noinline)) int link_keeps(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup route = {.family = AF_INET6, .ifindex = skb->ifindex};
	long answer;

	if (!packet)
		return 0;
	if (address_is_link_local(&packet->flow.target) || link_is_group(&packet->flow.target))
		return 1;
	/* The gateway's own address: the node delivers it, and forwards nothing. */
	route.l4_protocol = ICMPV6;
	__builtin_memcpy(route.ipv6_src, &packet->flow.source, sizeof(packet->flow.source));
	__builtin_memcpy(route.ipv6_dst, &packet->flow.target, sizeof(packet->flow.target));
	answer = bpf_fib_lookup(skb, &route, sizeof(route), FIB_SKIP_NEIGH);
	return answer == BPF_FIB_LKUP_RET_NOT_FWDED || answer == BPF_FIB_LKUP_RET_FWD_DISABLED;
}
