/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * clamp.h - the greatest segment that a SYN asks for (RFC 9293, 3.7.1), made as small as the way
 * back takes. Senders put the option first; where one does not, nothing is changed.
 */
#pragma once
#include "lib/packet.h"
#include "lib/service.h"

struct clamp_option {
	__u8 kind;
	__u8 bytes;
	__u16 segment_be;
};

/* `mtu`: of the way, bytes; 0: not known. What fails leaves the packet as it was. */
static __always_inline void clamp(struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	__u32 headers = address_is_ip4(&packet->flow.source) ? 40 : 60;
	__u32 at = packet->transport + 20;
	struct clamp_option option;
	__u16 segment_be;
	__u8 offset;

	if (mtu <= headers || bpf_skb_load_bytes(skb, packet->transport + 12, &offset, 1) ||
	    offset >> 4 < 6 || bpf_skb_load_bytes(skb, at, &option, sizeof(option)))
		return;
	if (option.kind != 2 || option.bytes != 4 || bpf_ntohs(option.segment_be) <= mtu - headers)
		return;
	segment_be = bpf_htons((__u16)(mtu - headers));
	if (bpf_l4_csum_replace(skb, packet->transport + 16, option.segment_be, segment_be, 2))
		return;
	bpf_skb_store_bytes(skb, at + 2, &segment_be, sizeof(segment_be), 0);
}
