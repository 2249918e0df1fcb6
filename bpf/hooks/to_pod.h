/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * to_pod.h - tc egress at the node's side of a pod's veth: the node's stack sends a packet to a
 * pod, from the node itself, from another node or from the world. New flows are judged, known ones
 * followed. What is the engine's (answers of the node's own servers, what the node un-masqueraded,
 * ICMP errors of its stack) is given to the engine.
 *
 * Fails closed, but for an address that no pod has: that is the node's to know, once the rows of
 * the pod behind the interface are there.
 */
#pragma once
#include "lib/capture.h"
#include "lib/count.h"
#include "lib/guard.h"
#include "lib/inbound.h"
#include "lib/judge.h"
#include "lib/nat.h"
#include "lib/refuse.h"
#include "lib/related.h"
#include "lib/rewrite.h"
#include "lib/tell.h"
#include "lib/vouch.h"

static __always_inline enum malla_verdict to_pod_follow(const struct sight *sight,
							const struct packet *packet)
{
	enum malla_verdict verdict = judge_known(sight, packet);

	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	flow_follow(packet, sight);
	if (flow_is_engines(sight->flow, sight->is_back))
		return capture_packet(packet);
	if (sight->flow->kind == MALLA_FLOW_TRANSLATED_BACK && sight->is_back)
		return MALLA_VERDICT_TRANSLATED_BACK;
	return MALLA_VERDICT_PASS;
}

static __always_inline enum malla_verdict to_pod_open(struct __sk_buff *skb, struct sight *sight,
						      struct packet *packet)
{
	enum malla_verdict verdict;
	enum stream way;

	if (!pod_find(&packet->flow.target))
		return pod_is_ready(skb->ifindex) ? MALLA_VERDICT_PASS : MALLA_VERDICT_NOT_READY;
	if (inbound_strays(skb, packet))
		return MALLA_VERDICT_STRAY_TO_ENGINE;
	if (vouch_holds(skb))
		packet->marks = MALLA_FLOW_VOUCHED;
	way = (enum stream)stream(skb, packet);
	verdict = inbound_open(sight, packet, inbound_place(skb, packet, way), 0, way);
	if (!sight->flow)
		return verdict;
	/* The stack may have translated it, and is to see the answers. */
	if (judge_allows(verdict))
		sight->flow->flags &= (__u16)~MALLA_FLOW_STRAIGHT;
	if (nat_serves(&packet->flow))
		sight->flow->flags |= MALLA_FLOW_SERVED;
	return verdict;
}

/* An error about a flow: it bears in itself what the flow's packets bear. */
static __always_inline enum malla_verdict
to_pod_relate(struct __sk_buff *skb, const struct sight *sight, struct packet *packet)
{
	enum malla_verdict verdict = (enum malla_verdict)related(skb, packet, 0);

	if (verdict != MALLA_VERDICT_RELATED)
		return verdict;
	if (flow_is_engines(sight->flow, sight->is_back))
		return capture_packet(packet);
	if (flow_is_shown(sight) && rewrite_source(skb, packet, &sight->flow->other))
		return MALLA_VERDICT_FAILED;
	return MALLA_VERDICT_RELATED;
}

static __always_inline enum malla_verdict to_pod_judge(struct __sk_buff *skb, struct packet *packet)
{
	struct sight sight;
	enum malla_verdict verdict;

	flow_see_packet(packet, &sight);
	if (packet->is_icmp) {
		if (sight.flow)
			return to_pod_relate(skb, &sight, packet);
		if (headers_read_outer(skb, packet) != MALLA_VERDICT_PASS)
			return MALLA_VERDICT_MALFORMED;
		flow_see_packet(packet, &sight);
	}
	if (!sight.flow || packet_opens(packet)) {
		if (!flow_engine_holds(packet, &sight))
			return to_pod_open(skb, &sight, packet);
		if (!sight.flow)
			return MALLA_VERDICT_PASS;
	}
	verdict = to_pod_follow(&sight, packet);
	if (verdict == MALLA_VERDICT_TRANSLATED_BACK && sight.flow &&
	    rewrite_source(skb, packet, &sight.flow->other))
		return MALLA_VERDICT_FAILED;
	return verdict;
}

static __always_inline enum malla_verdict to_pod_meet(struct __sk_buff *skb, struct packet *packet)
{
	enum malla_verdict verdict = packet_read(skb, sizeof(struct ethhdr), packet);

	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	return to_pod_judge(skb, packet);
}

/* The refusal goes up the stack as if the pod had sent it. A reset has none. */
static __always_inline int to_pod_refuse(struct __sk_buff *skb, const struct packet *packet)
{
	if (refuse(skb, packet, 0))
		return TCX_DROP;
	skb->mark = MALLA_MARK_RETURNED;
	return (int)bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

SEC("tc")
int malla_to_pod(struct __sk_buff *skb)
{
	struct packet packet = {.hook = MALLA_HOOK_TO_POD};
	enum malla_verdict verdict = to_pod_meet(skb, &packet);

	count_verdict(MALLA_HOOK_TO_POD, verdict);
	if (capture_is_engines(verdict))
		return capture_redirect(skb);
	if (refuse_answers(&packet, verdict)) {
		tell_refused(&packet, verdict);
		return to_pod_refuse(skb, &packet);
	}
	switch (verdict) {
	case MALLA_VERDICT_PASS:
	case MALLA_VERDICT_AUDITED:
	case MALLA_VERDICT_RELATED:
	case MALLA_VERDICT_LINK_LOCAL:
	case MALLA_VERDICT_NOT_IP:
	case MALLA_VERDICT_TRANSLATED_BACK:
		return guard_seal(skb, MALLA_HOOK_TO_POD);
	default:
		tell_refused(&packet, verdict);
		return TCX_DROP;
	}
}
