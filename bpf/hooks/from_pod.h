/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_pod.h - tc ingress at the node's side of a pod's veth: a packet comes out of a pod. New
 * connections of meshed pods to captured services are recorded and sent into the engine's
 * namespace; so are the answers of pods to what the engine dialled, and errors about either.
 *
 * A captured connection fails closed: without an engine its packets are dropped, never sent past
 * it. All else fails open and is the node's, as it was without Malla.
 */
#pragma once
#include "lib/capture.h"
#include "lib/count.h"
#include "lib/nat.h"
#include "lib/pod.h"

/* A connection opens towards a captured service. */
static __always_inline enum malla_verdict from_pod_capture(const struct packet *packet,
							   __u32 interface)
{
	if (!setting_engine())
		return MALLA_VERDICT_NO_ENGINE;
	if (flow_record(&packet->flow, MALLA_FLOW_CAPTURED, interface))
		return MALLA_VERDICT_FLOW_REFUSED;
	return MALLA_VERDICT_CAPTURED;
}

/* A pod outside of the mesh opens a connection to a captured service: balanced here, no proxy. */
static __always_inline enum malla_verdict
from_pod_balance(const struct packet *packet, const struct malla_service *service, __u32 interface)
{
	struct client client = {
	    .known_as.address = packet->flow.source,
	    .choice = bpf_get_prandom_u32(),
	};
	struct malla_flow flow = {.kind = MALLA_FLOW_TRANSLATED, .interfaces = {interface, 0}};
	struct malla_flow_key back = flow_reversed(&packet->flow);

	if (!endpoint_choose(service, &service->inside, &client, &flow.other))
		return MALLA_VERDICT_NO_ENDPOINT;
	if (flow_put(&packet->flow, &flow))
		return MALLA_VERDICT_FLOW_REFUSED;

	back.source = flow.other.address;
	back.source_port_be = flow.other.port_be;
	flow.kind = MALLA_FLOW_TRANSLATED_BACK;
	flow.interfaces[0] = 0;
	flow.other = flow_target(&packet->flow);
	return flow_put(&back, &flow) ? MALLA_VERDICT_FLOW_REFUSED : MALLA_VERDICT_TRANSLATED;
}

/* A connection opens: judged by configuration, whatever an older one on its tuple was. */
static __always_inline enum malla_verdict from_pod_open(const struct packet *packet,
							__u32 interface)
{
	struct malla_end target = flow_target(&packet->flow);
	const struct malla_service *service = service_meant(&target, 0);
	const struct malla_pod *pod = pod_find(&packet->flow.source);
	const struct malla_flow *flow;

	if (service && service_is_captured(service) && pod) {
		if (pod->interface != interface)
			return MALLA_VERDICT_SPOOFED;
		if (pod->flags & MALLA_POD_MESHED)
			return from_pod_capture(packet, interface);
		flow = flow_find(&packet->flow);
		if (flow && flow->kind == MALLA_FLOW_TRANSLATED)
			return MALLA_VERDICT_TRANSLATED; /* the same SYN once more */
		return from_pod_balance(packet, service, interface);
	}
	if (flow_engine_holds(packet))
		return MALLA_VERDICT_POD_MET_ENGINE;
	if (packet_from_engine_port(packet))
		flow_record(&packet->flow, MALLA_FLOW_OWN, interface);
	else if (flow_is_engines(flow_find(&packet->flow)))
		flow_forget(&packet->flow); /* captured once, not any more */
	return MALLA_VERDICT_PASS;
}

/* Mid-stream, without an entry. */
static __always_inline enum malla_verdict from_pod_stray(const struct packet *packet)
{
	struct malla_end target = flow_target(&packet->flow);
	const struct malla_service *service = service_meant(&target, 0);
	const struct malla_pod *pod;

	if (!service || !service_is_captured(service))
		return MALLA_VERDICT_PASS;
	pod = pod_find(&packet->flow.source);
	if (!pod || !(pod->flags & MALLA_POD_MESHED))
		return MALLA_VERDICT_PASS;
	return setting_engine() ? MALLA_VERDICT_STRAY_TO_ENGINE : MALLA_VERDICT_NO_ENGINE;
}

static __always_inline enum malla_verdict from_pod_judge(const struct packet *packet,
							 __u32 interface)
{
	const struct malla_flow *flow;

	if (packet_opens(packet))
		return from_pod_open(packet, interface);
	flow = flow_find(&packet->flow);
	if (!flow)
		return from_pod_stray(packet);
	if (flow_is_engines(flow)) {
		if (flow->interfaces[0] && flow->interfaces[0] != interface)
			return MALLA_VERDICT_SPOOFED;
		return capture_packet(packet);
	}
	if (flow->kind == MALLA_FLOW_TRANSLATED && !packet->is_icmp)
		return MALLA_VERDICT_TRANSLATED;
	return MALLA_VERDICT_PASS;
}

/* Writes the endpoint that the flow has instead of the service. */
static __always_inline enum malla_verdict from_pod_translate(struct __sk_buff *skb,
							     const struct packet *packet)
{
	const struct malla_flow *flow = flow_find(&packet->flow);
	struct malla_flow_key becomes = packet->flow;

	if (!flow)
		return MALLA_VERDICT_FAILED;
	becomes.target = flow->other.address;
	becomes.target_port_be = flow->other.port_be;
	return translate(skb, packet, &becomes) ? MALLA_VERDICT_FAILED : MALLA_VERDICT_TRANSLATED;
}

static __always_inline enum malla_verdict from_pod_meet(struct __sk_buff *skb)
{
	struct packet packet = {};
	enum malla_verdict verdict;

	if (skb->mark == MALLA_MARK_RETURNED) {
		skb->mark = 0;
		/* 0 is PACKET_HOST: the stack shall take it for its own. */
		return bpf_skb_change_type(skb, 0) ? MALLA_VERDICT_FAILED : MALLA_VERDICT_RETURNED;
	}
	if (!packet_read(skb, sizeof(struct ethhdr), &packet))
		return MALLA_VERDICT_PASS;
	verdict = from_pod_judge(&packet, skb->ifindex);
	if (verdict == MALLA_VERDICT_TRANSLATED)
		return from_pod_translate(skb, &packet);
	return verdict;
}

SEC("tc")
int malla_from_pod(struct __sk_buff *skb)
{
	enum malla_verdict verdict = from_pod_meet(skb);

	count_verdict(MALLA_HOOK_FROM_POD, verdict);
	if (capture_is_engines(verdict))
		return capture_redirect_peer();
	return verdict == MALLA_VERDICT_PASS || verdict == MALLA_VERDICT_RETURNED ||
		       verdict == MALLA_VERDICT_TRANSLATED
		   ? TCX_NEXT
		   : TCX_DROP;
}
