/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * guard.h - directly behind to_pod and from_engine: drops every packet that they have not let pass,
 * which is all while they are not attached. Behind from_pod that is what back does, and behind
 * uplink what outside does.
 */
#pragma once
#include "lib/guard.h"

static __always_inline int guard_meet(struct __sk_buff *skb, enum malla_hook hook)
{
	struct packet packet;

	if (guard_unseal(skb, hook))
		return TCX_NEXT;
	packet = (struct packet){.hook = (__u8)hook};
	return guard_refuse(skb, &packet, packet_read(skb, sizeof(struct ethhdr), &packet));
}

/* tc egress at the node's side of a pod's veth. */
SEC("tc")
int malla_guard(struct __sk_buff *skb)
{
	return guard_meet(skb, MALLA_HOOK_TO_POD);
}

/* tc ingress at the node's side of the engine's veth. */
SEC("tc")
int malla_guard_eng(struct __sk_buff *skb)
{
	return guard_meet(skb, MALLA_HOOK_FROM_ENGINE);
}
