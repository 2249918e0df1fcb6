/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * spoof.h - packets that an uplink brings and that cannot come from there: they bear an address of
 * this node or of one of its pods. Policies would take them for the node, or for the pod itself.
 * Linux drops such packets of IPv4 ("martians"), and lets those of IPv6 through.
 */
#pragma once
#include "lib/judge.h"
#include "lib/translate.h"

/* Whether the address is this node's or one of its pods'. */
static __always_inline int spoof_is_here(const struct malla_address *address)
{
	return pod_find(address) || judge_is_host(ipcache_identity(address));
}

/*
 * Whether a packet without an entry, from an uplink to a local pod, has such a source. For the
 * verifier.
 */
__attribute__((noinline)) int spoof_opens(struct __sk_buff *skb, const struct packet *packet)
{
	struct envelope outer;

	if (!packet)
		return 1;
	outer.source = packet->flow.source;
	outer.target = packet->flow.target;
	/* Of an ICMP error that is not about a flow, its own addresses are judged. */
	if (packet->is_icmp && translate_read_envelope(skb, packet->network, &outer))
		return 1;
	return pod_find(&outer.target) && spoof_is_here(&outer.source);
}
