/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_pod.h - tc ingress at the node's side of a pod's veth: a packet comes out of a pod. It bears
 * the pod's own address or goes nowhere. New flows are judged, known ones followed; a pod of the
 * same node gets its packets straight, without the node's stack. New connections of meshed pods to
 * captured services are sent into the engine's namespace; so are the answers of pods to what the
 * engine dialled, and errors about either.
 *
 * Fails closed: what cannot be read or is not the pod's to send is dropped; a captured connection
 * is never sent past the engine. Where no engine serves, the pod says whether a new one is reset or
 * gets an endpoint here.
 */
#pragma once
#include "lib/capture.h"
#include "lib/count.h"
#include "lib/exclude.h"
#include "lib/far.h"
#include "lib/guard.h"
#include "lib/inbound.h"
#include "lib/judge.h"
#include "lib/link.h"
#include "lib/nat.h"
#include "lib/refuse.h"
#include "lib/related.h"
#include "lib/rewrite.h"
#include "lib/tell.h"

/* Where a packet is sent after its verdict; 0: up the node's stack. */
struct from_pod {
	struct __sk_buff *skb;
	__u32 interface; /* that it came from */
	__u32 target;	 /* of the local pod that it goes to */
	__u8 is_past_engine;
	__u8 is_routed; /* to another node, without the node's stack */
	__u8 is_silent; /* what is cut is not reset: the engine ends it */
	__u8 pad[5];
};

static __always_inline int from_pod_is_own(const struct malla_address *address, __u32 interface)
{
	const struct malla_pod *pod = pod_find(address);

	return pod && pod->interface == interface;
}

/* A connection opens towards a captured service. */
static __always_inline enum malla_verdict
from_pod_capture(struct sight *sight, const struct packet *packet, const struct malla_pod *pod)
{
	struct malla_flow *flow = flow_blank(MALLA_FLOW_CAPTURED);

	if (!flow)
		return MALLA_VERDICT_FAILED;
	flow->interfaces[0] = pod->interface;
	flow->owner = pod->endpoint;
	if (!flow_open(sight, packet, flow, 0))
		return MALLA_VERDICT_FLOW_REFUSED;
	event_taken(packet, MALLA_VERDICT_CAPTURED);
	return MALLA_VERDICT_CAPTURED;
}

/*
 * A flow to a service that the socket hooks left alone or did not see: it gets an endpoint here, no
 * proxy. The choice is the tuple's, so that a SYN that is sent once more goes the same way.
 */
static __always_inline enum malla_verdict from_pod_balance(struct sight *sight,
							   const struct packet *packet,
							   const struct malla_service *service,
							   const struct malla_pod *pod)
{
	struct malla_flow *flow = flow_blank(MALLA_FLOW_TRANSLATED);

	if (!flow)
		return MALLA_VERDICT_FAILED;
	if (!service_admits(service, &packet->flow.source))
		return MALLA_VERDICT_SOURCE_REFUSED;
	if (!nat_end(packet, service, &flow->other))
		return MALLA_VERDICT_NO_ENDPOINT;
	if (address_is_equal(&flow->other.address, &packet->flow.source)) {
		int refused = nat_home_open(packet, &flow->other, pod->endpoint);

		return refused ? nat_refusal(refused) : MALLA_VERDICT_BROUGHT_HOME;
	}
	flow->interfaces[0] = pod->interface;
	flow->owner = pod->endpoint;
	return flow_open(sight, packet, flow, 0) ? MALLA_VERDICT_TRANSLATED
						 : MALLA_VERDICT_FLOW_REFUSED;
}

/* What goes on between a pod and itself by a service: BROUGHT_HOME; NO_ENDPOINT: the service has
 * lost the pod; PASS: it is none of that. */
static __always_inline enum malla_verdict from_pod_home(const struct packet *packet)
{
	const struct malla_snat *entry = nat_find(&packet->flow, MALLA_NAT_HOME);

	if (!entry)
		return MALLA_VERDICT_PASS;
	return entry->state & NAT_CUT ? MALLA_VERDICT_NO_ENDPOINT : MALLA_VERDICT_BROUGHT_HOME;
}

/* Whether what the pod sends to a service is for the engine. */
static __always_inline int from_pod_is_captured(const struct malla_service *service,
						const struct malla_pod *pod,
						const struct malla_end *end)
{
	return service && service_is_captured(service) && (pod->flags & MALLA_POD_MESHED) &&
	       !exclude_holds(pod, end);
}

/* Nothing knows the flow, or a connection opens: judged by what is configured now. */
static __always_inline enum malla_verdict from_pod_open(struct sight *sight, struct packet *packet,
							struct from_pod *way)
{
	struct malla_end end = flow_target(&packet->flow);
	const struct malla_pod *pod = pod_find(&packet->flow.source);
	const struct malla_service *service;
	enum malla_verdict verdict;
	enum stream direction;

	if (!pod || pod->interface != way->interface)
		return MALLA_VERDICT_SPOOFED;
	if (flow_engine_holds(packet, sight))
		return MALLA_VERDICT_POD_MET_ENGINE;
	if (flow_is_services(sight))
		return MALLA_VERDICT_SNAT_PORTS;
	verdict = packet_opens(packet) ? MALLA_VERDICT_PASS : from_pod_home(packet);
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	if (inbound_strays(way->skb, packet))
		return MALLA_VERDICT_STRAY_TO_ENGINE;
	service = service_meant(&end, 0);
	if (from_pod_is_captured(service, pod, &end)) {
		if (!packet_opens(packet))
			return setting_engine() ? MALLA_VERDICT_STRAY_TO_ENGINE
						: MALLA_VERDICT_NO_ENGINE;
		if (!service_admits(service, &packet->flow.source))
			return MALLA_VERDICT_SOURCE_REFUSED;
		if (capture_is_served(way->skb))
			return from_pod_capture(sight, packet, pod);
		if (pod->flags & MALLA_POD_FAILS_CLOSED)
			return MALLA_VERDICT_ENGINE_REFUSED;
		way->is_past_engine = 1;
	}
	if (service && nat_begins(packet))
		return from_pod_balance(sight, packet, service, pod);
	direction = (enum stream)stream(way->skb, packet);
	verdict =
	    inbound_open(sight, packet, inbound_place(way->skb, packet, direction), 0, direction);
	if (!judge_allows(verdict) || !sight->flow)
		return verdict;
	way->target = flow_receiver(sight->flow, sight->is_back);
	if (verdict == MALLA_VERDICT_PASS && way->target)
		return MALLA_VERDICT_DIRECT;
	if (far_leads(way->skb, packet)) {
		sight->flow->flags |= MALLA_FLOW_ROUTED;
		way->is_routed = 1;
	}
	return verdict;
}

/* A packet to the service's address that its flow has an endpoint for; if that is no more, it is
 * answered with a reset. */
static __always_inline enum malla_verdict from_pod_forth(struct malla_flow *flow)
{
	if (!(flow->flags & MALLA_FLOW_CUT))
		return MALLA_VERDICT_TRANSLATED;
	flow->state = MALLA_FLOW_CLOSED;
	flow->timeout_ticks = FLOW_TCP_CLOSED;
	return MALLA_VERDICT_NO_ENDPOINT;
}

/* A packet of a known flow. */
static __always_inline enum malla_verdict
from_pod_follow(struct sight *sight, const struct packet *packet, struct from_pod *way)
{
	struct malla_flow *flow = sight->flow;
	enum malla_verdict verdict;

	if (flow_sender(flow, sight->is_back) != way->interface) {
		if (!from_pod_is_own(&packet->flow.source, way->interface))
			return MALLA_VERDICT_SPOOFED;
		flow->interfaces[flow_index(sight->is_back)] = way->interface;
	}
	verdict = judge_known(sight, packet);
	if (verdict != MALLA_VERDICT_PASS) {
		way->is_silent = verdict == MALLA_VERDICT_CUT && flow->kind == MALLA_FLOW_DIALLED;
		return verdict;
	}
	flow_follow(packet, sight);
	if (flow_is_engines(flow, sight->is_back))
		return capture_packet(packet);
	if (flow->kind == MALLA_FLOW_TRANSLATED && !sight->is_back)
		return from_pod_forth(flow);
	way->target = flow_receiver(flow, sight->is_back);
	if (flow->kind == MALLA_FLOW_TRANSLATED_BACK && sight->is_back)
		return MALLA_VERDICT_TRANSLATED_BACK;
	if (way->target)
		return MALLA_VERDICT_DIRECT;
	way->is_routed = far_is_routed(flow);
	return MALLA_VERDICT_PASS;
}

/* The same where the packet bears what the pod dialled. */
static __always_inline enum malla_verdict
from_pod_follow_own(struct sight *sight, const struct packet *packet, struct from_pod *way)
{
	if (flow_is_services(sight) && flow_sender(sight->flow, 0) == way->interface)
		return MALLA_VERDICT_SNAT_PORTS;
	return from_pod_follow(sight, packet, way);
}

/*
 * An error about a flow: it goes where the flow's packets go, and bears in itself what they bear
 * there.
 */
static __always_inline enum malla_verdict
from_pod_relate(struct sight *sight, struct packet *packet, struct from_pod *way)
{
	enum malla_verdict verdict = (enum malla_verdict)related(way->skb, packet, way->interface);

	if (verdict != MALLA_VERDICT_RELATED)
		return verdict;
	if (!sight->flow)
		return nat_home(way->skb, packet) ? MALLA_VERDICT_FAILED
						  : MALLA_VERDICT_BROUGHT_HOME;
	if (flow_is_engines(sight->flow, sight->is_back))
		return capture_packet(packet);
	if (sight->flow->kind == MALLA_FLOW_TRANSLATED && !sight->is_back) {
		if (rewrite_target(way->skb, packet, &sight->flow->other))
			return MALLA_VERDICT_FAILED;
		flow_see(&packet->flow, sight);
		if (!sight->flow)
			return MALLA_VERDICT_RELATED;
		if (flow_is_engines(sight->flow, sight->is_back))
			return capture_packet(packet);
	} else if (flow_is_shown(sight) && rewrite_source(way->skb, packet, &sight->flow->other)) {
		return MALLA_VERDICT_FAILED;
	}
	way->target = flow_receiver(sight->flow, sight->is_back);
	way->is_routed = far_is_routed(sight->flow);
	return MALLA_VERDICT_RELATED;
}

/* What a link needs by itself: from an address of the link, or the pod's own. */
static __always_inline enum malla_verdict
from_pod_link(struct __sk_buff *skb, const struct packet *packet, __u32 interface)
{
	const struct malla_address *source = &packet->flow.source;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return MALLA_VERDICT_LINK_LOCAL;
	/* Routers advertise and redirect; a pod is none. */
	if (packet->icmp_type == 134 || packet->icmp_type == 137)
		return MALLA_VERDICT_SPOOFED;
	if (packet->icmp_type >= 133 && packet->icmp_type <= 136 && !link_keeps(skb, packet))
		return MALLA_VERDICT_OFF_LINK;
	if (address_is_unspecified(source) || address_is_link_local(source) ||
	    from_pod_is_own(source, interface))
		return MALLA_VERDICT_LINK_LOCAL;
	return MALLA_VERDICT_SPOOFED;
}

/* After the service's address was replaced, the flow between pod and endpoint is judged. */
static __always_inline enum malla_verdict from_pod_translated(struct sight *sight,
							      const struct malla_end *service,
							      struct packet *packet,
							      struct from_pod *way)
{
	enum malla_verdict verdict;

	flow_see(&packet->flow, sight);
	if (flow_is_anothers(sight, service))
		return rewrite_target(way->skb, packet, service) ? MALLA_VERDICT_FAILED
								 : MALLA_VERDICT_SNAT_PORTS;
	if (!sight->flow && !pod_find(&packet->flow.target) && inbound_strays(way->skb, packet)) {
		packet->marks |= MALLA_FLOW_CARRIED;
		verdict = judge_open(sight, packet, MALLA_FLOW_CAPTURED, service, 0);
		return judge_allows(verdict) ? MALLA_VERDICT_CAPTURED : verdict;
	}
	if (!sight->flow || packet_opens(packet)) {
		verdict = inbound_open(sight, packet, inbound_place(way->skb, packet, STREAM_FORTH),
				       service, STREAM_FORTH);
		/* A reset is believed only if it comes from whom the pod has dialled. */
		if (refuse_answers(packet, verdict) && rewrite_target(way->skb, packet, service))
			return MALLA_VERDICT_FAILED;
		if (!judge_allows(verdict) || !sight->flow)
			return verdict;
		way->target = flow_receiver(sight->flow, sight->is_back);
		return verdict == MALLA_VERDICT_PASS ? MALLA_VERDICT_TRANSLATED : verdict;
	}
	verdict = from_pod_follow(sight, packet, way);
	if (refuse_answers(packet, verdict) && rewrite_target(way->skb, packet, service))
		return MALLA_VERDICT_FAILED;
	return verdict == MALLA_VERDICT_DIRECT || verdict == MALLA_VERDICT_PASS
		   ? MALLA_VERDICT_TRANSLATED
		   : verdict;
}

static __always_inline enum malla_verdict
from_pod_judge(struct __sk_buff *skb, struct packet *packet, struct from_pod *way)
{
	struct sight sight;
	enum malla_verdict verdict;

	flow_see_packet(packet, &sight);
	if (packet->is_icmp) {
		if (sight.flow || nat_find(&packet->flow, MALLA_NAT_HOME))
			return from_pod_relate(&sight, packet, way);
		if (headers_read_outer(skb, packet) != MALLA_VERDICT_PASS)
			return MALLA_VERDICT_MALFORMED;
		flow_see_packet(packet, &sight);
	}
	if (sight.flow && !packet_opens(packet))
		verdict = from_pod_follow_own(&sight, packet, way);
	else
		verdict = from_pod_open(&sight, packet, way);
	if (verdict == MALLA_VERDICT_BROUGHT_HOME)
		return nat_home(skb, packet) ? MALLA_VERDICT_FAILED : verdict;
	if (verdict == MALLA_VERDICT_TRANSLATED && sight.flow) {
		struct malla_end service = flow_target(&packet->flow);
		struct malla_flow *shown = sight.flow;

		if (rewrite_target(skb, packet, &shown->other))
			return MALLA_VERDICT_FAILED;
		verdict = from_pod_translated(&sight, &service, packet, way);
		if (sight.flow && verdict != MALLA_VERDICT_SNAT_PORTS)
			flow_agree(shown, sight.flow);
		return verdict;
	}
	if (verdict == MALLA_VERDICT_TRANSLATED_BACK && sight.flow &&
	    rewrite_source(skb, packet, &sight.flow->other))
		return MALLA_VERDICT_FAILED;
	return verdict;
}

/* By the node's routes, if they take it; what is too long for them becomes its own answer. */
static __always_inline enum malla_verdict from_pod_ask(struct __sk_buff *skb, struct packet *packet,
						       struct from_pod *way,
						       enum malla_verdict verdict)
{
	int mtu = far_ask(skb, packet);

	if (mtu <= 0) {
		/* Whose hops end here is told so by the stack. */
		way->is_routed = !mtu && !way_age(skb, packet);
		return verdict;
	}
	way->target = way->interface;
	return refuse(skb, packet, (__u32)mtu) ? MALLA_VERDICT_FAILED : MALLA_VERDICT_TOO_LONG;
}

/* 0: the packet is its own answer. Of a connection that is cut both ends are reset. */
static __always_inline int from_pod_refuse(struct __sk_buff *skb, struct packet *packet,
					   const struct from_pod *way, enum malla_verdict verdict)
{
	if (way->is_silent || !refuse_answers(packet, verdict))
		return -1;
	if (refuse_ends(packet, verdict))
		refuse_onward(skb, packet);
	return refuse(skb, packet, 0);
}

static __always_inline enum malla_verdict from_pod_meet(struct __sk_buff *skb,
							struct packet *packet, struct from_pod *way)
{
	enum malla_verdict verdict;

	if (skb->mark == MALLA_MARK_RETURNED) {
		skb->mark = 0;
		/* 0 is PACKET_HOST: the stack shall take it for its own. */
		return bpf_skb_change_type(skb, 0) ? MALLA_VERDICT_FAILED : MALLA_VERDICT_RETURNED;
	}
	if (skb->mark == MALLA_MARK_NUDGED) {
		skb->mark = 0;
		way->target = way->interface;
		return bpf_skb_change_type(skb, 0) ? MALLA_VERDICT_FAILED : MALLA_VERDICT_NUDGED;
	}
	verdict = packet_read(skb, sizeof(struct ethhdr), packet);
	if (verdict == MALLA_VERDICT_LINK_LOCAL)
		return from_pod_link(skb, packet, way->interface);
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	verdict = from_pod_judge(skb, packet, way);
	if (way->is_routed && !way->target &&
	    (judge_allows(verdict) || verdict == MALLA_VERDICT_RELATED))
		verdict = from_pod_ask(skb, packet, way, verdict);
	/* What nobody serves is answered, and what goes home too: back into the pod. */
	if (verdict == MALLA_VERDICT_BROUGHT_HOME || !from_pod_refuse(skb, packet, way, verdict))
		way->target = way->interface;
	return verdict;
}

/* Nobody can lie about an address before it is known whose it is. */
static __always_inline enum malla_verdict from_pod_reason(enum malla_verdict verdict,
							  __u32 interface)
{
	return verdict == MALLA_VERDICT_SPOOFED && !pod_is_ready(interface)
		   ? MALLA_VERDICT_NOT_READY
		   : verdict;
}

/* What is counted, where the packet's way says more than its verdict. */
static __always_inline enum malla_verdict from_pod_counted(const struct from_pod *way,
							   enum malla_verdict verdict)
{
	if (way->is_past_engine && verdict == MALLA_VERDICT_TRANSLATED)
		return MALLA_VERDICT_PAST_ENGINE;
	return way->is_routed && verdict == MALLA_VERDICT_PASS ? MALLA_VERDICT_FORWARDED : verdict;
}

/* What goes on: straight into the pod, by the node's routes, or up its stack. */
static __always_inline int from_pod_send(struct __sk_buff *skb, const struct from_pod *way)
{
	if (way->target)
		return (int)bpf_redirect_peer(way->target, 0);
	return way->is_routed ? far_send() : guard_seal(skb, MALLA_HOOK_FROM_POD);
}

SEC("tc")
int malla_from_pod(struct __sk_buff *skb)
{
	struct from_pod way = {.skb = skb, .interface = skb->ifindex};
	struct packet packet = {.hook = MALLA_HOOK_FROM_POD};
	enum malla_verdict verdict =
	    from_pod_reason(from_pod_meet(skb, &packet, &way), way.interface);

	count_verdict(MALLA_HOOK_FROM_POD, from_pod_counted(&way, verdict));
	if (capture_is_engines(verdict))
		return capture_redirect_peer();
	switch (verdict) {
	case MALLA_VERDICT_RETURNED:
	case MALLA_VERDICT_LINK_LOCAL:
		return guard_seal(skb, MALLA_HOOK_FROM_POD);
	case MALLA_VERDICT_PASS:
	case MALLA_VERDICT_RELATED:
	case MALLA_VERDICT_DIRECT:
	case MALLA_VERDICT_AUDITED:
	case MALLA_VERDICT_TRANSLATED:
	case MALLA_VERDICT_TRANSLATED_BACK:
		return from_pod_send(skb, &way);
	case MALLA_VERDICT_BROUGHT_HOME:
	case MALLA_VERDICT_TOO_LONG:
	case MALLA_VERDICT_NUDGED:
		return way.target ? (int)bpf_redirect_peer(way.target, 0) : TCX_DROP;
	case MALLA_VERDICT_NO_ENDPOINT:
	case MALLA_VERDICT_ENGINE_REFUSED:
	case MALLA_VERDICT_PLAIN_REFUSED:
	case MALLA_VERDICT_SNAT_PORTS:
	case MALLA_VERDICT_CUT:
		tell_refused(&packet, verdict);
		return way.target ? (int)bpf_redirect_peer(way.target, 0) : TCX_DROP;
	default:
		tell_refused(&packet, verdict);
		return TCX_DROP;
	}
}
