/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * translate.h - writes another address and port into a TCP packet. Needed only for a pod outside
 * of the mesh that calls a captured service: the socket hooks cannot tell its sockets from a meshed
 * pod's and leave them alone, so its packets are balanced one connection at a time at its
 * interface.
 */
#pragma once
#include "lib/packet.h"

/* Which end of the packet is written. */
struct translation {
	struct malla_end from; /* as the packet bears it */
	struct malla_end to;
	__u8 is_source; /* else the target */
};

static __always_inline long translate_address(struct __sk_buff *skb, const struct packet *packet,
					      const struct translation *change)
{
	__u32 checksum = packet->transport + 16;
	__u32 bytes = skb->protocol == bpf_htons(ETH_P_IP) ? 4 : 16;
	/* The last `bytes` of both hold what the header holds. */
	__u32 at;
	__s64 difference;

	if (bytes == 4) {
		__u32 old = change->from.address.words_be[3];
		__u32 new = change->to.address.words_be[3];

		at = packet->network + (change->is_source ? 12 : 16);
		return bpf_l4_csum_replace(skb, checksum, old, new, BPF_F_PSEUDO_HDR | 4) ||
		       bpf_l3_csum_replace(skb, packet->network + 10, old, new, 4) ||
		       bpf_skb_store_bytes(skb, at, &new, 4, 0);
	}
	difference = bpf_csum_diff((__be32 *)change->from.address.words_be, 16,
				   (__be32 *)change->to.address.words_be, 16, 0);
	at = packet->network + (change->is_source ? 8 : 24);
	return difference < 0 ||
	       bpf_l4_csum_replace(skb, checksum, 0, (__u64)difference, BPF_F_PSEUDO_HDR) ||
	       bpf_skb_store_bytes(skb, at, change->to.address.words_be, 16, 0);
}

/* 0: written, checksums too. */
static __always_inline long translate(struct __sk_buff *skb, const struct packet *packet,
				      const struct translation *change)
{
	__u32 port = packet->transport + (change->is_source ? 0 : 2);
	__u16 port_be = change->to.port_be;

	return translate_address(skb, packet, change) ||
	       bpf_l4_csum_replace(skb, packet->transport + 16, change->from.port_be, port_be, 2) ||
	       bpf_skb_store_bytes(skb, port, &port_be, sizeof(port_be), 0);
}
