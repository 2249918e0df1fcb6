/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_engine.h - tc ingress at the node's side of the engine's veth: a packet comes out of the
 * engine's namespace, and so is the engine's by definition. What it dials is recorded by the tuple
 * that the answers will bear; what it answers bears what its client dialled. Then the packet goes
 *  - into a local pod, straight through its veth;
 *  - to a pod elsewhere, and back to whoever dialled a pod, by the node's routes, to the neighbour
 *    that they name, if the packet fits the MTU;
 *  - up the node's stack as if its client had sent it, where it leads to no pod, or the routes
 *    refuse: the stack delivers to the node itself, masquerades what is for the world, or answers
 *    with the ICMP error that teaches the engine (to_pod gives it back).
 *
 * What it dials from a port that somebody else holds is reset, and it dials again from another;
 * what policies deny is reset too, and the engine, which knows them, tells the client.
 *
 * Fails closed: anything that is not TCP, or of which neither end is a local pod, is dropped.
 */
#pragma once
#include "lib/capture.h"
#include "lib/count.h"
#include "lib/inbound.h"
#include "lib/judge.h"
#include "lib/nat.h"
#include "lib/peer.h"
#include "lib/refuse.h"
#include "lib/rewrite.h"
#include "lib/tell.h"
#include "lib/way.h"

/* The interfaces of the local pods at both ends of a packet; 0: that end is no local pod. */
struct ends {
	__u32 source;
	__u32 target;
	struct malla_end
	    dialled; /* by the client that this answers, if not the pod's own address */
	__u32
	    is_stacks; /* the engine dials what is no pod: the node's stack sees both directions */
};

/*
 * Whether the engine dials, and does not answer, where the table does not know. A service may
 * listen on such a port too.
 */
static __always_inline int from_engine_dials(const struct packet *packet, const struct ends *ends)
{
	struct malla_end source = {
	    .address = packet->flow.source,
	    .port_be = packet->flow.source_port_be,
	    .protocol = IPPROTO_TCP,
	};

	if (!packet_from_engine_port(packet))
		return 0;
	return packet_opens(packet) || ends->source || !service_find(&source);
}

/* The engine dials the port of tunnels: of a pod elsewhere, to which they lead. */
static __always_inline int from_engine_tunnels(const struct packet *packet, const struct ends *ends)
{
	const struct malla_setting *values = setting();

	return packet->flow.target_port_be == bpf_htons(MALLA_HBONE_PORT) && !ends->target &&
	       values && values->flags & MALLA_SETTING_HBONE &&
	       peer_speaks_hbone(&packet->flow.target);
}

/*
 * What the flow was of which the engine answers on and the entry is gone: a tunnel, what a tunnel
 * carries, or plain text of somebody for whom this node does not vouch (inbound.h). Who comes by
 * the node's address counts as the node.
 */
static __always_inline __u16 from_engine_answers(const struct packet *packet,
						 const struct ends *ends)
{
	const struct malla_pod *pod;

	if (!ends->source)
		return peer_speaks_hbone(&packet->flow.source) ? MALLA_FLOW_CARRIED : 0;
	pod = pod_find(&packet->flow.source);
	if (pod && inbound_is_hbone(pod, packet->flow.source_port_be))
		return MALLA_FLOW_TUNNEL;
	return inbound_answers_known(packet) ? 0 : MALLA_FLOW_PLAIN;
}

/*
 * Enters what the engine opens here, or puts back what the table lost: the engine speaks on a tuple
 * only because the connection is its own. What it dials bears the client's address and is judged
 * as the client's, but for tunnels: what they carry is; what it answers was opened by the pod that
 * it answers.
 */
static __always_inline enum malla_verdict
from_engine_enter(struct sight *sight, struct packet *packet, const struct ends *ends)
{
	int place;
	enum malla_verdict verdict;
	int is_dialled = from_engine_dials(packet, ends);
	int is_tunnel = is_dialled && from_engine_tunnels(packet, ends);
	struct malla_flow *flow;
	const struct malla_pod *pod;

	if (packet->flags & TCP_RST)
		return MALLA_VERDICT_PASS;
	if (is_dialled && !is_tunnel) {
		place = ends->target ? INBOUND_NOT : inbound_far(packet);
		verdict = place < INBOUND_NOT ? (enum malla_verdict)place
					      : judge_open(sight, packet, MALLA_FLOW_DIALLED, 0, 0);
		if (judge_allows(verdict) && sight->flow && peer_is_pod(&packet->flow.target))
			sight->flow->flags |= MALLA_FLOW_ROUTED;
		return verdict;
	}
	pod = pod_find(ends->target ? &packet->flow.target : &packet->flow.source);
	flow = flow_blank(is_tunnel ? MALLA_FLOW_DIALLED : MALLA_FLOW_CAPTURED);
	if (!flow)
		return MALLA_VERDICT_FAILED;
	flow->interfaces[is_tunnel ? 1 : 0] = ends->target;
	flow->interfaces[is_tunnel ? 0 : 1] = ends->source;
	flow->flags =
	    is_tunnel ? MALLA_FLOW_TUNNEL | MALLA_FLOW_ROUTED : from_engine_answers(packet, ends);
	flow->owner = pod ? pod->endpoint : 0;
	if (!flow_open(sight, packet, flow, !is_tunnel))
		return MALLA_VERDICT_FLOW_REFUSED;
	/* Modes and policies may have changed since: its next packet has it judged. */
	if (sight->flow->flags & (MALLA_FLOW_PLAIN | MALLA_FLOW_CARRIED))
		sight->flow->generation--;
	return MALLA_VERDICT_PASS;
}

/* The engine dials on a tuple that somebody else speaks on: a pod, or a client of its own. */
static __always_inline int from_engine_meets(const struct packet *packet, const struct sight *sight)
{
	if (flow_is_held(sight->flow, MALLA_FLOW_OWN))
		return 1;
	return packet_opens(packet) && !sight->is_back &&
	       flow_is_held(sight->flow, MALLA_FLOW_CAPTURED);
}

/* A packet of a connection that the engine has here, and which it neither dials nor lost. */
static __always_inline int from_engine_knows(const struct packet *packet, const struct sight *sight)
{
	return sight->flow && !packet_opens(packet) &&
	       flow_is_engines(sight->flow, !sight->is_back);
}

/* Rows of pods change with the generation; a connection remembers what they said. */
static __always_inline void from_engine_ends(const struct packet *packet, const struct sight *sight,
					     __u32 generation, struct ends *ends)
{
	const struct malla_flow *flow = sight->flow;

	if (from_engine_knows(packet, sight) && flow->generation == generation) {
		ends->source = flow_sender(flow, sight->is_back);
		ends->target = flow_sender(flow, !sight->is_back);
	}
	if (ends->source || ends->target)
		return;
	ends->source = pod_interface(&packet->flow.source);
	ends->target = pod_interface(&packet->flow.target);
}

/* Fills `ends`. */
static __always_inline enum malla_verdict from_engine_record(struct packet *packet,
							     struct ends *ends)
{
	/* Before the rows that it stands for. */
	__u32 generation = judge_generation();
	struct sight sight;
	enum malla_verdict verdict;

	flow_see(&packet->flow, &sight);
	from_engine_ends(packet, &sight, generation, ends);
	if (!ends->source && !ends->target)
		return MALLA_VERDICT_FOREIGN;
	if (from_engine_meets(packet, &sight))
		return MALLA_VERDICT_ENGINE_MET_POD;
	if (!from_engine_knows(packet, &sight)) {
		verdict = from_engine_enter(&sight, packet, ends);
		/* Its hook counts it by another name, here and where the engine received it. */
		if (verdict == MALLA_VERDICT_AUDITED)
			count_verdict(MALLA_HOOK_FROM_ENGINE, verdict);
		ends->is_stacks = sight.flow && flow_is_stacks(sight.flow);
		return judge_allows(verdict) ? MALLA_VERDICT_PASS : verdict;
	}
	verdict = judge_known(&sight, packet);
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	/* One of those that are not judged here. */
	if (sight.flow->generation != generation) {
		sight.flow->interfaces[flow_index(!sight.is_back)] = ends->target;
		if (sight.flow->kind == MALLA_FLOW_DIALLED)
			sight.flow->interfaces[flow_index(sight.is_back)] = ends->source;
		sight.flow->generation = generation;
	}
	flow_follow(packet, &sight);
	if (sight.flow->kind == MALLA_FLOW_CAPTURED)
		ends->dialled = sight.flow->other;
	ends->is_stacks = flow_is_stacks(sight.flow);
	return MALLA_VERDICT_PASS;
}

static __always_inline enum malla_verdict from_engine_refused(long answer)
{
	switch (answer) {
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return MALLA_VERDICT_AS_POD_TOO_LONG;
	case BPF_FIB_LKUP_RET_NOT_FWDED: /* an address of the node's own */
		return MALLA_VERDICT_AS_POD;
	default:
		return MALLA_VERDICT_AS_POD_NO_ROUTE;
	}
}

/* Where a packet is sent after its verdict. */
struct onward {
	struct bpf_fib_lookup *route;
	__u32 interface;
	__u32 is_refused; /* it is its own answer now */
};

/* A reset reaches the engine even while it is in connect(2); an ICMP error does not. */
static __always_inline int from_engine_is_refused(enum malla_verdict verdict)
{
	return verdict == MALLA_VERDICT_ENGINE_MET_POD || verdict == MALLA_VERDICT_DENIED_EGRESS ||
	       verdict == MALLA_VERDICT_DENIED_INGRESS;
}

/*
 * Whether the packet is answered. Of what it dials the engine ends itself what policies deny now;
 * of what it has received both ends are reset.
 */
static __always_inline int from_engine_answers_cut(const struct packet *packet,
						   enum malla_verdict verdict)
{
	if (verdict == MALLA_VERDICT_PLAIN_REFUSED)
		return 1;
	if (verdict == MALLA_VERDICT_CUT)
		return !packet_from_engine_port(packet);
	return from_engine_is_refused(verdict) && packet_opens(packet);
}

/* The engine's end of a connection is asked for its numbers. */
static __always_inline int from_engine_is_nudged(struct __sk_buff *skb)
{
	if (skb->mark != MALLA_MARK_NUDGED)
		return 0;
	skb->mark = 0;
	return !bpf_skb_change_type(skb, 0);
}

static __always_inline enum malla_verdict
from_engine_meet(struct __sk_buff *skb, struct packet *packet, struct onward *onward)
{
	struct ends ends = {};
	enum malla_verdict verdict;
	long answer;

	if (from_engine_is_nudged(skb))
		return MALLA_VERDICT_NUDGED;
	if (packet_read(skb, sizeof(struct ethhdr), packet) != MALLA_VERDICT_PASS ||
	    packet->is_icmp || packet->flow.protocol != IPPROTO_TCP)
		return MALLA_VERDICT_FOREIGN;
	verdict = from_engine_record(packet, &ends);
	if (from_engine_answers_cut(packet, verdict)) {
		if (refuse_ends(packet, verdict))
			refuse_onward(skb, packet);
		onward->is_refused = !refuse(skb, packet, 0);
	}
	if (verdict != MALLA_VERDICT_PASS)
		return verdict;
	if (ends.target) {
		onward->interface = ends.target;
		if (ends.dialled.port_be && rewrite_source(skb, packet, &ends.dialled))
			return MALLA_VERDICT_FAILED;
		return MALLA_VERDICT_TO_LOCAL_POD;
	}
	onward->interface = ends.source;
	/* The answer to a client outside who dialled the node: behind from_pod it is translated. */
	if (!packet_from_engine_port(packet) && nat_find(&packet->flow, MALLA_NAT_OUT_OF_POD))
		return MALLA_VERDICT_AS_POD;
	if (ends.is_stacks)
		return MALLA_VERDICT_AS_POD;
	answer = way_route(skb, packet, &packet->flow, &onward->route);
	if (!answer && way_age(skb, packet))
		return MALLA_VERDICT_AS_POD_NO_ROUTE;
	return answer ? from_engine_refused(answer) : MALLA_VERDICT_FORWARDED;
}

static __always_inline int from_engine_as_pod(struct __sk_buff *skb, const struct onward *onward)
{
	skb->mark = MALLA_MARK_RETURNED;
	return (int)bpf_redirect(onward->interface, BPF_F_INGRESS);
}

SEC("tc")
int malla_from_eng(struct __sk_buff *skb)
{
	struct onward onward = {};
	struct packet packet = {.hook = MALLA_HOOK_FROM_ENGINE};
	enum malla_verdict verdict = from_engine_meet(skb, &packet, &onward);

	count_verdict(MALLA_HOOK_FROM_ENGINE, verdict);
	switch (verdict) {
	case MALLA_VERDICT_TO_LOCAL_POD:
		return (int)bpf_redirect_peer(onward.interface, 0);
	case MALLA_VERDICT_NUDGED:
		return capture_redirect_peer();
	case MALLA_VERDICT_FORWARDED:
		return way_redirect(onward.route);
	case MALLA_VERDICT_ENGINE_MET_POD:
	case MALLA_VERDICT_PLAIN_REFUSED:
	case MALLA_VERDICT_DENIED_EGRESS:
	case MALLA_VERDICT_DENIED_INGRESS:
	case MALLA_VERDICT_CUT:
		tell_refused(&packet, verdict);
		return onward.is_refused ? capture_redirect_peer() : TCX_DROP;
	case MALLA_VERDICT_AS_POD:
	case MALLA_VERDICT_AS_POD_TOO_LONG:
	case MALLA_VERDICT_AS_POD_NO_ROUTE:
		return from_engine_as_pod(skb, &onward);
	default:
		tell_refused(&packet, verdict);
		return TCX_DROP;
	}
}
