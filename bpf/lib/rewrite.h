/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* rewrite.h - the two translations of a pod's packets, as functions of their own for the verifier.
 */
#pragma once
#include "lib/translate.h"

/* Writes `end` over the packet's target, in `packet` too. 0: done. */
__attribute__((noinline)) int rewrite_target(struct __sk_buff *skb, struct packet *packet,
					     const struct malla_end *end)
{
	struct malla_flow_key becomes = {};

	if (!packet || !end)
		return 1;
	becomes = packet->flow;
	becomes.target = end->address;
	becomes.target_port_be = end->port_be;
	if (translate(skb, packet, &becomes))
		return 1;
	packet->flow = becomes;
	return 0;
}

/* Writes `end` over the packet's source. 0: done. */
__attribute__((noinline)) int rewrite_source(struct __sk_buff *skb, const struct packet *packet,
					     const struct malla_end *end)
{
	struct malla_flow_key becomes = {};

	if (!packet || !end)
		return 1;
	becomes = packet->flow;
	becomes.source = end->address;
	becomes.source_port_be = end->port_be;
	return translate(skb, packet, &becomes) != 0;
}
