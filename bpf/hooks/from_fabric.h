/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_fabric.h - tc ingress at the node's uplinks: a packet comes from another node or the world.
 * Answers to what the engine dialled in pods, and ICMP errors about it, go into the engine's
 * namespace before the node's stack sees them; so do new connections to pods that need the engine.
 * What pods of other nodes open towards pods of this one is judged here, and goes straight into the
 * pod. There are two programs, because a device without a link-layer header (TUN, WireGuard, ipip)
 * begins with the IP header. A frame of a VLAN is for the device of that VLAN, where it is met;
 * one for another host's link-layer address is nobody's here.
 *
 * The engine's packets fail closed, and so does what bears an address of this node or its pods; all
 * else passes, and is judged at the pod it is for.
 */
#pragma once
#include "lib/capture.h"
#include "lib/count.h"
#include "lib/far.h"
#include "lib/guard.h"
#include "lib/inbound.h"
#include "lib/judge.h"
#include "lib/nat.h"
#include "lib/refuse.h"
#include "lib/related.h"
#include "lib/spoof.h"
#include "lib/tell.h"

/* Whether the source is one that no uplink can bring. A flow's entry knows which ends are pods. */
static __always_inline int from_fabric_is_spoofed(struct __sk_buff *skb,
						  const struct packet *packet,
						  const struct sight *sight)
{
	if (!sight->flow || packet_opens(packet))
		return spoof_opens(skb, packet);
	return !packet->is_icmp && flow_sender(sight->flow, sight->is_back) &&
	       pod_find(&packet->flow.source);
}

/*
 * Who speaks with a service of this node from the same port is its pod's client by this tuple; the
 * answers would bear the service's address. Who has done so is that no more.
 */
static __always_inline int from_fabric_is_served(const struct packet *packet,
						 const struct sight *sight)
{
	const struct malla_flow *flow = sight->flow;

	if (flow && !sight->is_back && !packet->is_icmp && flow->flags & MALLA_FLOW_SERVED &&
	    flow->state != MALLA_FLOW_CLOSED)
		return 1;
	if ((flow && !packet_opens(packet)) || !nat_begins(packet) || nat_is_idle() ||
	    !pod_find(&packet->flow.target))
		return 0;
	/* Datagrams that no entry knows are those of nobody who was answered lately. */
	return nat_overrule(&packet->flow, flow ? flow->state == MALLA_FLOW_CLOSED
						: packet->flow.protocol != IPPROTO_TCP);
}

/* A pod of another node opens a connection to one of this node, which needs no engine. */
static __always_inline enum malla_verdict
from_fabric_open(struct __sk_buff *skb, struct packet *packet, struct sight *sight, __u32 *target)
{
	enum malla_verdict verdict;

	if (!pod_find(&packet->flow.target) || !far_returns(skb, packet))
		return MALLA_VERDICT_PASS;
	verdict = inbound_open(sight, packet, INBOUND_NOT, 0, STREAM_FORTH);
	if (!judge_allows(verdict) || !sight->flow)
		return verdict;
	/* Its pod may just have opened it to that one. */
	*target = sight->flow->interfaces[flow_index(!sight->is_back)];
	if (!*target)
		return MALLA_VERDICT_PASS;
	sight->flow->flags |= MALLA_FLOW_ROUTED;
	return verdict == MALLA_VERDICT_PASS ? MALLA_VERDICT_DIRECT : verdict;
}

/* A packet of a connection that goes between two pods without the node's stack. */
static __always_inline enum malla_verdict from_fabric_follow(struct __sk_buff *skb,
							     struct packet *packet,
							     const struct sight *sight,
							     __u32 *target)
{
	enum malla_verdict verdict;

	*target = sight->flow->interfaces[flow_index(!sight->is_back)];
	if (!*target)
		return MALLA_VERDICT_PASS;
	if (packet->is_icmp)
		return (enum malla_verdict)related(skb, packet, 0);
	verdict = judge_known(sight, packet);
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	flow_follow(packet, sight);
	return MALLA_VERDICT_DIRECT;
}

/* `target`: the interface of the pod that gets the packet straight. */
static __always_inline enum malla_verdict from_fabric_judge(struct __sk_buff *skb,
							    struct packet *packet, __u32 *target)
{
	struct sight sight;
	enum malla_verdict verdict;
	int place;

	flow_see_packet(packet, &sight);
	if (from_fabric_is_spoofed(skb, packet, &sight))
		return MALLA_VERDICT_SPOOFED;
	if (flow_engine_holds(packet, &sight))
		return MALLA_VERDICT_UPLINK_MET_ENGINE;
	if (from_fabric_is_served(packet, &sight))
		return MALLA_VERDICT_SNAT_PORTS;
	place = inbound(skb, packet);
	if (place != INBOUND_NOT)
		return inbound_open(&sight, packet, place, 0, STREAM_FORTH);
	if (!sight.flow || !flow_is_engines(sight.flow, sight.is_back)) {
		if (packet_opens(packet))
			return from_fabric_open(skb, packet, &sight, target);
		if (!sight.flow && pod_find(&packet->flow.target) && inbound_strays(skb, packet))
			return MALLA_VERDICT_STRAY_TO_ENGINE;
		return sight.flow && far_is_routed(sight.flow)
			   ? from_fabric_follow(skb, packet, &sight, target)
			   : MALLA_VERDICT_PASS;
	}
	/* It comes to the engine behind the stack, at the pod's interface. */
	if (flow_is_stacks(sight.flow))
		return MALLA_VERDICT_PASS;
	if (packet->is_icmp) {
		verdict = (enum malla_verdict)related(skb, packet, 0);
		return verdict == MALLA_VERDICT_RELATED ? capture_packet(packet) : verdict;
	}
	verdict = judge_known(&sight, packet);
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	flow_follow(packet, &sight);
	return capture_packet(packet);
}

static __always_inline int from_fabric_meet(struct __sk_buff *skb, __u32 network)
{
	struct packet packet = {.hook = MALLA_HOOK_UPLINK};
	enum malla_verdict verdict = MALLA_VERDICT_PASS;
	__u32 target = 0;

	if (packet_is_anothers(skb))
		return TCX_NEXT;
	if (packet_read(skb, network, &packet) == MALLA_VERDICT_PASS)
		verdict = from_fabric_judge(skb, &packet, &target);
	count_verdict(MALLA_HOOK_UPLINK, verdict);
	if (capture_is_engines(verdict))
		return capture_redirect_peer();
	if (verdict == MALLA_VERDICT_PASS)
		return guard_seal(skb, MALLA_HOOK_UPLINK);
	if (verdict == MALLA_VERDICT_DIRECT || verdict == MALLA_VERDICT_AUDITED ||
	    verdict == MALLA_VERDICT_RELATED)
		return (int)bpf_redirect_peer(target, 0);
	tell_refused(&packet, verdict);
	if (refuse_answers(&packet, verdict) && !refuse(skb, &packet, 0))
		return (int)bpf_redirect(skb->ifindex, 0);
	return TCX_DROP;
}

SEC("tc")
int malla_uplink(struct __sk_buff *skb)
{
	return from_fabric_meet(skb, sizeof(struct ethhdr));
}

SEC("tc")
int malla_uplink3(struct __sk_buff *skb)
{
	return from_fabric_meet(skb, 0);
}
