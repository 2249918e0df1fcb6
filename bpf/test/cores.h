/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * cores.h - the cores of the hooks that meet packets, each once: a test that had them inside itself
 * several times would not fit the stack, and the verifier would walk through each.
 */
#pragma once
#include "test/expect.h"

__attribute__((noinline)) int pod_sends(struct __sk_buff *skb, struct packet *packet,
					__u32 interface)
{
	struct from_pod way = {.skb = skb, .interface = interface};

	if (!packet)
		return MALLA_VERDICT_FAILED;
	packet->hook = MALLA_HOOK_FROM_POD;
	return from_pod_judge(skb, packet, &way);
}

__attribute__((noinline)) int fabric_sends(struct __sk_buff *skb, struct packet *packet)
{
	__u32 target = 0;

	if (!packet)
		return MALLA_VERDICT_FAILED;
	packet->hook = MALLA_HOOK_UPLINK;
	return from_fabric_judge(skb, packet, &target);
}

__attribute__((noinline)) int stack_sends(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return MALLA_VERDICT_FAILED;
	packet->hook = MALLA_HOOK_TO_POD;
	return to_pod_judge(skb, packet);
}

__attribute__((noinline)) int engine_sends(struct packet *packet, struct ends *ends)
{
	if (!packet || !ends)
		return MALLA_VERDICT_FAILED;
	packet->hook = MALLA_HOOK_FROM_ENGINE;
	return from_engine_record(packet, ends);
}

static __always_inline struct malla_flow *flow_of(const struct packet *packet)
{
	struct sight sight;

	flow_see(&packet->flow, &sight);
	return sight.flow;
}
