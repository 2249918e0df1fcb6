/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * to_pod.h - tc egress at the node's side of a pod's veth: the node's stack sends a packet to a
 * pod. What is the engine's (answers of the node's own servers, what the node un-masqueraded, ICMP
 * errors of its stack) is given to the engine.
 *
 * The engine's packets fail closed; all else passes.
 */
#pragma once
#include "lib/capture.h"
#include "lib/count.h"
#include "lib/translate.h"

static __always_inline enum malla_verdict to_pod_judge(const struct packet *packet)
{
	const struct malla_flow *flow = flow_find(&packet->flow);

	if (flow_is_engines(flow))
		return capture_packet(packet);
	if (flow && flow->kind == MALLA_FLOW_TRANSLATED_BACK && !packet->is_icmp)
		return MALLA_VERDICT_TRANSLATED_BACK;
	return MALLA_VERDICT_PASS;
}

/* Writes the service's address, which is what the pod dialled, over the endpoint's. */
static __always_inline enum malla_verdict to_pod_translate(struct __sk_buff *skb,
							   const struct packet *packet)
{
	const struct malla_flow *flow = flow_find(&packet->flow);
	struct malla_flow_key becomes = packet->flow;

	if (!flow)
		return MALLA_VERDICT_FAILED;
	becomes.source = flow->other.address;
	becomes.source_port_be = flow->other.port_be;
	return translate(skb, packet, &becomes) ? MALLA_VERDICT_FAILED
						: MALLA_VERDICT_TRANSLATED_BACK;
}

static __always_inline enum malla_verdict to_pod_meet(struct __sk_buff *skb)
{
	struct packet packet = {};
	enum malla_verdict verdict;

	if (!packet_read(skb, sizeof(struct ethhdr), &packet))
		return MALLA_VERDICT_PASS;
	verdict = to_pod_judge(&packet);
	if (verdict == MALLA_VERDICT_TRANSLATED_BACK)
		return to_pod_translate(skb, &packet);
	return verdict;
}

SEC("tc")
int malla_to_pod(struct __sk_buff *skb)
{
	enum malla_verdict verdict = to_pod_meet(skb);

	count_verdict(MALLA_HOOK_TO_POD, verdict);
	if (capture_is_engines(verdict))
		return capture_redirect(skb);
	if (verdict == MALLA_VERDICT_PASS || verdict == MALLA_VERDICT_TRANSLATED_BACK)
		return TCX_NEXT;
	return TCX_DROP;
}
