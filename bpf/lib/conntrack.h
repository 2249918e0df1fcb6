/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conntrack.h - the flow table: one entry decides. A flow is judged when it opens; every later
 * packet, either way, finds that entry by one look-up and follows it, so that a change of
 * configuration never cuts a connection in two. share.h says how many an endpoint may hold,
 * judge.h how one is judged.
 */
#pragma once
#include "lib/headers.h"

/* Written by every hook that meets packets; BPFLoader takes out what is over. It sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_flow_key);
	__type(value, struct malla_flow);
} malla_flow SEC(".maps");

/* A flow that wants to be. Pairs are as in struct malla_flow. */
struct judgement {
	struct malla_flow_key tuple; /* in the direction in which it is opened */
	__u32 interfaces[2];
	__u32 owner;
	__u32 rule;	  /* that decided; 0: none */
	__u32 direction;  /* enum malla_direction: whose policies that was, else the opener's way */
	__u32 is_vouched; /* the node dials, for whom the engine has judged */
};

/* What the stack has no room for: a judgement, and the entry that is made of it. */
struct blank {
	struct malla_flow flow;
	struct judgement judgement;
};

/* Used by one program at a time: those that meet packets do not interrupt each other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct blank);
} malla_blank SEC(".maps");

/*
 * How long a flow is kept after its last packet, in ticks of 1.07 s. An open TCP connection: longer
 * than the two hours after which Linux sends its first keep-alive (RFC 5382 demands 2 h 4 min).
 * Before it runs out the loader has its ends asked (nudge.h).
 */
#define FLOW_TCP_OPENING 60
#define FLOW_TCP_OPEN	 8000
#define FLOW_TCP_CLOSING 600
#define FLOW_TCP_CLOSED	 10
#define FLOW_OPENING	 30
#define FLOW_OPEN	 180

/* What the table knows of a packet. */
struct sight {
	struct malla_flow *flow; /* null: nothing, or what it knew is over */
	struct malla_flow_key key;
	__u32 now_ticks;
	__u8 is_swapped; /* the packet's source is the key's target */
	__u8 is_back;	 /* against the direction in which the flow was opened */
	__u8 exists;	 /* there is an entry, if only one that is over */
	__u8 pad;
};

static __always_inline __u32 flow_now(void)
{
	return (__u32)(bpf_ktime_get_coarse_ns() >> MALLA_TICK_SHIFT);
}

static __always_inline int flow_is_over(const struct malla_flow *flow, __u32 now_ticks)
{
	/* Signed: another processor may have seen it a tick later. */
	return (__s32)(now_ticks - flow->seen_ticks) > (__s32)flow->timeout_ticks;
}

/* Any order will do that both directions agree on. */
static __always_inline int flow_source_is_lesser(const struct malla_flow_key *tuple)
{
	const struct malla_address *source = &tuple->source;
	const struct malla_address *target = &tuple->target;

	if (source->words_be[3] != target->words_be[3])
		return source->words_be[3] < target->words_be[3];
	if (source->words_be[2] != target->words_be[2])
		return source->words_be[2] < target->words_be[2];
	if (source->words_be[1] != target->words_be[1])
		return source->words_be[1] < target->words_be[1];
	if (source->words_be[0] != target->words_be[0])
		return source->words_be[0] < target->words_be[0];
	return tuple->source_port_be < tuple->target_port_be;
}

/* The one look-up of both directions. */
static __always_inline void flow_see(const struct malla_flow_key *tuple, struct sight *sight)
{
	struct malla_flow *flow;

	sight->flow = 0;
	sight->now_ticks = flow_now();
	sight->is_swapped = 0;
	sight->is_back = 0;
	sight->exists = 0;
	if (flow_source_is_lesser(tuple)) {
		sight->key = flow_reversed(tuple);
		sight->is_swapped = 1;
	} else {
		sight->key = *tuple;
	}
	flow = bpf_map_lookup_elem(&malla_flow, &sight->key);
	if (!flow)
		return;
	sight->exists = 1;
	sight->is_back = sight->is_swapped != (flow->flags & MALLA_FLOW_SWAPPED);
	if (!flow_is_over(flow, sight->now_ticks))
		sight->flow = flow;
}

/*
 * The same of a packet. Questions of ICMP without an identifier have one entry, whichever end asks:
 * one against its direction is no answer, but opens a flow.
 */
static __always_inline void flow_see_packet(const struct packet *packet, struct sight *sight)
{
	flow_see(&packet->flow, sight);
	if (sight->is_back && packet_asks(packet))
		sight->flow = 0;
}

/* Never null in practice: an array of one row. */
static __always_inline struct blank *blank(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&malla_blank, &first);
}

/* An entry of `kind` with nothing else in it. */
static __always_inline struct malla_flow *flow_blank(enum malla_flow_kind kind)
{
	struct blank *row = blank();

	if (!row)
		return 0;
	__builtin_memset(&row->flow, 0, sizeof(row->flow));
	row->flow.kind = kind;
	return &row->flow;
}

/* An index that the verifier can see to be 0 or 1. */
static __always_inline __u32 flow_index(int is_second)
{
	__u32 index = (__u32)is_second;

	asm volatile("%0 &= 1" : "+r"(index));
	return index;
}

/* The interface of the local pod that sends packets in this direction; 0: no local pod does. */
static __always_inline __u32 flow_sender(const struct malla_flow *flow, int is_back)
{
	return flow->interfaces[flow_index(is_back)];
}

/* The same of the pod that receives them, if it is to have them straight; else 0. */
static __always_inline __u32 flow_receiver(const struct malla_flow *flow, int is_back)
{
	if (!(flow->flags & MALLA_FLOW_STRAIGHT))
		return 0;
	return flow->interfaces[flow_index(!is_back)];
}

/* Packets in this direction are the engine's to receive. */
static __always_inline int flow_is_engines(const struct malla_flow *flow, int is_back)
{
	return flow->kind == (is_back ? MALLA_FLOW_DIALLED : MALLA_FLOW_CAPTURED);
}

/* The engine dialled what is no pod: both directions go by the node's stack, which may translate.
 */
static __always_inline int flow_is_stacks(const struct malla_flow *flow)
{
	return flow->kind == MALLA_FLOW_DIALLED && !(flow->flags & MALLA_FLOW_ROUTED);
}

/* A packet in this direction is shown to its receiver with the service's address as its source. */
static __always_inline int flow_is_shown(const struct sight *sight)
{
	return sight->flow->kind == MALLA_FLOW_TRANSLATED_BACK && sight->is_back;
}

/* The engine, or a pod, still speaks on this tuple. */
static __always_inline int flow_is_held(const struct malla_flow *flow, enum malla_flow_kind kind)
{
	return flow && flow->kind == kind && flow->state != MALLA_FLOW_CLOSED;
}

/*
 * Whether a connection that opens here uses a tuple on which the engine has dialled: its SYN-ACK
 * would go to the engine.
 */
static __always_inline int flow_engine_holds(const struct packet *packet, const struct sight *sight)
{
	return packet_opens(packet) && !sight->is_back &&
	       flow_is_held(sight->flow, MALLA_FLOW_DIALLED);
}

/*
 * Somebody speaks on this tuple already who does not know its far end as `service`: the answers
 * would bear the address of the wrong one.
 */
static __always_inline int flow_is_anothers(const struct sight *sight,
					    const struct malla_end *service)
{
	const struct malla_flow *flow = sight->flow;

	return flow && flow->state != MALLA_FLOW_CLOSED && !end_is_equal(&flow->other, service);
}

/* The same of who dials the far end itself: the answers would bear a service's address. */
static __always_inline int flow_is_services(const struct sight *sight)
{
	const struct malla_flow *flow = sight->flow;

	return flow && !sight->is_back && flow->state != MALLA_FLOW_CLOSED &&
	       (flow->kind == MALLA_FLOW_TRANSLATED_BACK ||
		(flow->kind == MALLA_FLOW_CAPTURED && flow->other.port_be));
}

/* Follows TCP's states as far as time-outs need them. */
static __always_inline void flow_advance_tcp(struct malla_flow *flow, __u8 tcp, int is_back)
{
	if (tcp & TCP_RST) {
		flow->state = MALLA_FLOW_CLOSED;
		/* What was cut is remembered, for those who ask. */
		flow->timeout_ticks =
		    flow->flags & MALLA_FLOW_CUT ? FLOW_TCP_CLOSING : FLOW_TCP_CLOSED;
	} else if (tcp & TCP_FIN) {
		__u16 both = MALLA_FLOW_FIN | MALLA_FLOW_FIN_BACK;
		__u16 flags = flow->flags | (is_back ? MALLA_FLOW_FIN_BACK : MALLA_FLOW_FIN);
		int is_closed = (flags & both) == both;

		flow->flags = flags;
		flow->state = is_closed ? MALLA_FLOW_CLOSED : MALLA_FLOW_CLOSING;
		flow->timeout_ticks = is_closed ? FLOW_TCP_CLOSED : FLOW_TCP_CLOSING;
	} else if (is_back) {
		if (!(flow->flags & MALLA_FLOW_ANSWERED))
			flow->flags |= MALLA_FLOW_ANSWERED;
	} else if (flow->state == MALLA_FLOW_OPENING && flow->flags & MALLA_FLOW_ANSWERED &&
		   !(tcp & TCP_SYN)) {
		flow->state = MALLA_FLOW_OPEN;
		flow->timeout_ticks = FLOW_TCP_OPEN;
	}
}

static __always_inline void flow_advance(struct malla_flow *flow, const struct packet *packet,
					 int is_back)
{
	if (packet->flow.protocol == IPPROTO_TCP) {
		if (packet->flags & (TCP_FIN | TCP_RST) || flow->state == MALLA_FLOW_OPENING)
			flow_advance_tcp(flow, packet->flags, is_back);
	} else if (is_back && flow->state == MALLA_FLOW_OPENING) {
		flow->flags |= MALLA_FLOW_ANSWERED;
		flow->state = MALLA_FLOW_OPEN;
		flow->timeout_ticks = FLOW_OPEN;
	}
}

/*
 * The entry of a flow to a service's address sees one direction only. That of the same flow to the
 * endpoint sees both, and each packet of the first after it.
 */
static __always_inline void flow_agree(struct malla_flow *shown, const struct malla_flow *flow)
{
	if (shown->state == flow->state && shown->timeout_ticks == flow->timeout_ticks)
		return;
	shown->flags |= flow->flags & MALLA_FLOW_ANSWERED;
	shown->state = flow->state;
	shown->timeout_ticks = flow->timeout_ticks;
}

/*
 * The endpoint has reset a flow to a service's address, which is the last that is heard of it. For
 * the verifier.
 */
__attribute__((noinline)) int flow_reset_shown(const struct packet *packet,
					       const struct malla_end *service)
{
	struct malla_flow_key tuple = {};
	struct sight sight;

	if (!packet || !service)
		return 0;
	tuple.source = packet->flow.target;
	tuple.source_port_be = packet->flow.target_port_be;
	tuple.target = service->address;
	tuple.target_port_be = service->port_be;
	tuple.protocol = packet->flow.protocol;
	flow_see(&tuple, &sight);
	if (!sight.flow || sight.flow->kind != MALLA_FLOW_TRANSLATED)
		return 0;
	sight.flow->state = MALLA_FLOW_CLOSED;
	sight.flow->timeout_ticks = FLOW_TCP_CLOSED;
	return 1;
}

/* Counts a packet of a flow, and keeps the flow. */
static __always_inline void flow_follow(const struct packet *packet, const struct sight *sight)
{
	struct malla_flow *flow = sight->flow;

	flow_advance(flow, packet, sight->is_back);
	if (packet->flags & TCP_RST && flow_is_shown(sight))
		flow_reset_shown(packet, &flow->other);
	if (flow->seen_ticks != sight->now_ticks)
		flow->seen_ticks = sight->now_ticks;
	if (sight->is_back) {
		__sync_fetch_and_add(&flow->packets[1], packet->segments);
		__sync_fetch_and_add(&flow->bytes[1], packet->bytes);
	} else {
		__sync_fetch_and_add(&flow->packets[0], packet->segments);
		__sync_fetch_and_add(&flow->bytes[0], packet->bytes);
	}
}
