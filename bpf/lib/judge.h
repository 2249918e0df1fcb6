/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * judge.h - whether policies allow a flow, and its entry in the table. Both ends are asked in one
 * go where both are pods of this node; replies belong to the flow and are never asked about.
 *
 * A pod always reaches itself. What no policy selects is open.
 */
#pragma once
#include <linux/errno.h>

#include "lib/conntrack.h"
#include "lib/event.h"
#include "lib/ipcache.h"
#include "lib/mode.h"
#include "lib/pod.h"
#include "lib/policy.h"
#include "lib/service.h"
#include "lib/setting.h"
#include "lib/share.h"

static __always_inline __u32 judge_identity(const struct malla_pod *pod,
					    const struct malla_address *address)
{
	return pod && pod->identity ? pod->identity : ipcache_identity(address);
}

/* One of the node's own addresses. */
static __always_inline int judge_is_host(__u32 identity)
{
	return identity == MALLA_IDENTITY_HOST ||
	       (identity >= MALLA_IDENTITY_HOST_BLOCKS && identity < MALLA_IDENTITY_LABELS);
}

/* One end's policies about the other. */
static __always_inline enum malla_verdict judge_end(struct judgement *judgement,
						    const struct malla_pod *pod, __u32 peer,
						    enum malla_direction direction)
{
	struct policy_question question = {
	    .set = pod->set,
	    .identity = peer,
	    .direction = direction,
	    .protocol = judgement->tuple.protocol,
	    .port_be = judgement->tuple.target_port_be,
	};
	struct policy_answer answer;

	question.is_ipv6 = !address_is_ip4(&judgement->tuple.source);
	if (question.protocol != IPPROTO_TCP && question.protocol != IPPROTO_UDP)
		question.port_be = 0;
	answer = policy_ask(&question);
	if (answer.rule || answer.verdict != MALLA_POLICY_ALLOW) {
		judgement->rule = answer.rule;
		judgement->direction = direction;
	}
	if (answer.verdict == MALLA_POLICY_ALLOW)
		return MALLA_VERDICT_PASS;
	if (answer.is_audited)
		return MALLA_VERDICT_AUDITED;
	return direction == MALLA_EGRESS ? MALLA_VERDICT_DENIED_EGRESS
					 : MALLA_VERDICT_DENIED_INGRESS;
}

/* PASS, AUDITED, DENIED_EGRESS or DENIED_INGRESS; fills all but the tuple. For the verifier. */
__attribute__((noinline)) int judge(struct judgement *judgement)
{
	const struct malla_setting *values = setting();
	const struct malla_pod *source;
	const struct malla_pod *target;
	enum malla_verdict egress = MALLA_VERDICT_PASS;
	enum malla_verdict ingress = MALLA_VERDICT_PASS;
	__u32 peer, rule;

	if (!judgement || !values)
		return MALLA_VERDICT_FAILED;
	source = pod_find(&judgement->tuple.source);
	target = pod_find(&judgement->tuple.target);
	judgement->rule = 0;
	judgement->direction = source ? MALLA_EGRESS : MALLA_INGRESS;
	judgement->interfaces[0] = source ? source->interface : 0;
	judgement->interfaces[1] = target ? target->interface : 0;
	judgement->owner = source ? source->endpoint : target ? target->endpoint : 0;
	if (source && target && source->interface == target->interface)
		return MALLA_VERDICT_PASS;
	if (source && source->set) {
		peer = judge_identity(target, &judgement->tuple.target);
		egress = judge_end(judgement, source, peer, MALLA_EGRESS);
	}
	if (egress != MALLA_VERDICT_PASS && egress != MALLA_VERDICT_AUDITED)
		return egress;
	if (target && target->set) {
		peer = judge_identity(source, &judgement->tuple.source);
		rule = judgement->rule;
		if (!judge_is_host(peer) ||
		    (!judgement->is_vouched && !(values->flags & MALLA_SETTING_HOST_ALLOWED)))
			ingress = judge_end(judgement, target, peer, MALLA_INGRESS);
		/* Who only tries to deny is named, not who allows. */
		if (ingress == MALLA_VERDICT_PASS && egress == MALLA_VERDICT_AUDITED) {
			judgement->rule = rule;
			judgement->direction = MALLA_EGRESS;
		}
	}
	return ingress == MALLA_VERDICT_PASS ? egress : ingress;
}

static __always_inline int judge_allows(enum malla_verdict verdict)
{
	return verdict == MALLA_VERDICT_PASS || verdict == MALLA_VERDICT_AUDITED;
}

static __always_inline __u32 judge_generation(void)
{
	const struct malla_setting *values = setting();

	return values ? values->generation : 0;
}

/* How a flow begins. */
static __always_inline void flow_begin(struct malla_flow *flow, __u8 protocol, int is_mid_stream)
{
	if (is_mid_stream) {
		flow->state = MALLA_FLOW_OPEN;
		flow->flags |= MALLA_FLOW_ANSWERED;
	}
	if (protocol == IPPROTO_TCP)
		flow->timeout_ticks = is_mid_stream ? FLOW_TCP_OPEN : FLOW_TCP_OPENING;
	else
		flow->timeout_ticks = is_mid_stream ? FLOW_OPEN : FLOW_OPENING;
}

enum flow_entry {
	FLOW_NO_ROOM,
	FLOW_ENTERED,
	FLOW_ENTERED_MEANWHILE, /* by another processor, maybe the other way round */
};

/* Puts the entry into the table and onto its owner's account. */
static __always_inline enum flow_entry flow_enter(const struct sight *sight,
						  const struct malla_flow *flow)
{
	struct malla_flow *old = 0;
	__u32 owner;
	long error = -ENOENT;

	if (sight->exists)
		old = bpf_map_lookup_elem(&malla_flow, &sight->key);
	owner = old ? old->owner : 0;
	/* An entry that is there already keeps its place, and its owner's account. */
	if (old && owner == flow->owner)
		error = bpf_map_update_elem(&malla_flow, &sight->key, flow, BPF_EXIST);
	if (error != -ENOENT)
		return error ? FLOW_NO_ROOM : FLOW_ENTERED;
	if (old && owner != flow->owner && !bpf_map_delete_elem(&malla_flow, &sight->key))
		share_give_back(owner);
	/* What is there by now needs no room. */
	if (!share_admit(&sight->key, flow->owner))
		return bpf_map_lookup_elem(&malla_flow, &sight->key) ? FLOW_ENTERED_MEANWHILE
								     : FLOW_NO_ROOM;
	error = bpf_map_update_elem(&malla_flow, &sight->key, flow, BPF_NOEXIST);
	if (error)
		share_give_back(flow->owner);
	if (error == -EEXIST)
		return FLOW_ENTERED_MEANWHILE;
	return error ? FLOW_NO_ROOM : FLOW_ENTERED;
}

/*
 * Writes the entry of a flow whose `kind`, `interfaces`, `owner`, `rule`, `other` and, of its
 * flags, AUDITED are filled. `sight` is of a packet of it, and then knows the flow. 0: refused.
 */
static __always_inline int flow_open(struct sight *sight, const struct packet *packet,
				     struct malla_flow *flow, int is_back)
{
	int is_mid_stream = packet->flow.protocol == IPPROTO_TCP && !packet_opens(packet);
	enum flow_entry entry;

	if (sight->is_swapped != is_back)
		flow->flags |= MALLA_FLOW_SWAPPED;
	flow->generation = judge_generation();
	flow->seen_ticks = sight->now_ticks;
	flow_begin(flow, packet->flow.protocol, is_mid_stream);
	/* The rest of a connection whose entry made room is no open one. */
	if (is_mid_stream && packet->flags & (TCP_FIN | TCP_RST))
		flow_advance_tcp(flow, packet->flags, is_back);
	flow->packets[flow_index(is_back)] = packet->segments;
	flow->bytes[flow_index(is_back)] = packet->bytes;
	entry = flow_enter(sight, flow);
	if (entry == FLOW_NO_ROOM)
		return 0;
	sight->flow = bpf_map_lookup_elem(&malla_flow, &sight->key);
	if (!sight->flow)
		return 0;
	sight->exists = 1;
	sight->is_back = sight->is_swapped != (sight->flow->flags & MALLA_FLOW_SWAPPED);
	if (entry == FLOW_ENTERED_MEANWHILE)
		flow_follow(packet, sight);
	return 1;
}

/* Has the flow of `packet` judged, in the direction in which it was opened. */
static __always_inline enum malla_verdict judge_tuple(struct judgement *judgement,
						      const struct packet *packet, int is_back)
{
	if (is_back)
		judgement->tuple = flow_reversed(&packet->flow);
	else
		judgement->tuple = packet->flow;
	return (enum malla_verdict)judge(judgement);
}

/*
 * A flow between two ends, of which there is no entry: judged, and entered as `kind` if allowed.
 * `is_back`: its packet answers in a flow that was opened the other way.
 */
static __always_inline enum malla_verdict judge_open(struct sight *sight,
						     const struct packet *packet,
						     enum malla_flow_kind kind,
						     const struct malla_end *other, int is_back)
{
	struct blank *row = blank();
	struct malla_flow *flow = flow_blank(kind);
	enum malla_verdict verdict;

	if (!row || !flow)
		return MALLA_VERDICT_FAILED;
	row->judgement.is_vouched = packet->marks & MALLA_FLOW_VOUCHED;
	verdict = judge_tuple(&row->judgement, packet, is_back);
	if (!judge_allows(verdict))
		return verdict;
	flow->owner = row->judgement.owner;
	flow->rule = row->judgement.rule;
	flow->interfaces[0] = row->judgement.interfaces[0];
	flow->interfaces[1] = row->judgement.interfaces[1];
	if (other)
		flow->other = *other;
	if (!packet_continues(packet))
		flow->flags = MALLA_FLOW_STRAIGHT;
	flow->flags |= packet->marks;
	if (verdict == MALLA_VERDICT_AUDITED)
		flow->flags |= MALLA_FLOW_AUDITED;
	if (!flow_open(sight, packet, flow, is_back))
		return MALLA_VERDICT_FLOW_REFUSED;
	event_opened(packet, &row->judgement, verdict);
	return verdict;
}

/* The judged flow is plain text to a port that insists on mutual TLS. */
static __always_inline int judge_is_bare(const struct judgement *judgement)
{
	const struct malla_address *address = &judgement->tuple.target;
	__u16 port_be = judgement->tuple.target_port_be;
	const struct malla_pod *target = pod_find(address);

	return target ? mode_is_strict(target, port_be)
		      : mode_is_strict_far(peer_flags(address), port_be);
}

static __always_inline enum malla_verdict judge_refuse(struct judgement *judgement)
{
	judgement->rule = 0;
	judgement->direction = MALLA_INGRESS;
	return MALLA_VERDICT_PLAIN_REFUSED;
}

/* Policies, modes or pods have changed since the flow was judged: its next
 * packet has it judged anew. */
static __always_inline void judge_again(const struct sight *sight, const struct packet *packet,
					__u32 generation)
{
	struct malla_flow *flow = sight->flow;
	struct blank *row = blank();
	enum malla_verdict verdict;
	__u16 flags;

	if (!row)
		return;
	row->judgement.is_vouched = flow->flags & MALLA_FLOW_VOUCHED;
	verdict = judge_tuple(&row->judgement, packet, sight->is_back);
	if (judge_allows(verdict) && flow->flags & MALLA_FLOW_PLAIN &&
	    judge_is_bare(&row->judgement))
		verdict = judge_refuse(&row->judgement);
	flags = flow->flags & (__u16) ~(MALLA_FLOW_CUT | MALLA_FLOW_AUDITED | MALLA_FLOW_BARE);
	if (verdict == MALLA_VERDICT_AUDITED)
		flags |= MALLA_FLOW_AUDITED;
	if (!judge_allows(verdict))
		flags |= MALLA_FLOW_CUT;
	if (verdict == MALLA_VERDICT_PLAIN_REFUSED)
		flags |= MALLA_FLOW_BARE;
	flow->flags = flags;
	flow->rule = row->judgement.rule;
	flow->interfaces[0] = row->judgement.interfaces[0];
	flow->interfaces[1] = row->judgement.interfaces[1];
	flow->generation = generation;
}

/*
 * Whether a known flow may go on: PASS, CUT or PLAIN_REFUSED. What the engine
 * receives for a service or a tunnel, and what goes to a service's address, is
 * not judged here but where it is dialled, or by its endpoint's tuple.
 */
static __always_inline enum malla_verdict judge_known(const struct sight *sight,
						      const struct packet *packet)
{
	struct malla_flow *flow = sight->flow;
	__u32 generation;

	if (flow->kind == MALLA_FLOW_TRANSLATED || flow->flags & MALLA_FLOW_TUNNEL ||
	    (flow->kind == MALLA_FLOW_CAPTURED && !flow->interfaces[1] &&
	     !(flow->flags & (MALLA_FLOW_CARRIED | MALLA_FLOW_PLAIN))))
		return MALLA_VERDICT_PASS;
	generation = judge_generation();
	/* What is cut is judged each time, so that it can be told who did it. */
	if (flow->generation != generation || flow->flags & MALLA_FLOW_CUT)
		judge_again(sight, packet, generation);
	if (!(flow->flags & MALLA_FLOW_CUT))
		return MALLA_VERDICT_PASS;
	/* What ends it, once. */
	if (packet->flags & TCP_RST && flow->state != MALLA_FLOW_CLOSED)
		return MALLA_VERDICT_PASS;
	return flow->flags & MALLA_FLOW_BARE ? MALLA_VERDICT_PLAIN_REFUSED : MALLA_VERDICT_CUT;
}
