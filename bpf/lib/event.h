/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * event.h - the ring in which the agent reads which flows were refused and, if it asks for a
 * sample, which were admitted. Nothing here is on the way of a packet that passes, but for one
 * question when its flow opens.
 *
 * What does not fit is counted: an agent that reads too slowly loses events, never packets.
 */
#pragma once
#include "lib/conntrack.h"
#include "lib/ipcache.h"
#include "lib/pod.h"
#include "lib/setting.h"

#include "malla_event.h"

/* Written at each refusal that is told and each flow of the sample; read by BPFLoader/Event, which
 * sets the size (bytes). */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1048576);
} malla_event SEC(".maps");

/* Written and read at each refused packet, by programs only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct malla_flow_key);
	__type(value, struct malla_denied);
} malla_denied SEC(".maps");

/* By enum malla_meter. Written with the ring; read and summed over the processors by BPFLoader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MALLA_METERS);
	__type(key, __u32);
	__type(value, __u64);
} malla_meter SEC(".maps");

/* What an event says besides its tuple. */
struct cause {
	__u32 rule;
	__u32 packets;
	__u8 hook;
	__u8 verdict;
	__u8 direction;
	__u8 flags;
	__u32 interface;
};

static __always_inline __u64 *event_meter(__u32 row)
{
	return bpf_map_lookup_elem(&malla_meter, &row);
}

static __always_inline void event_count(__u32 row)
{
	__u64 *count = event_meter(row);

	if (count)
		(*count)++;
}

/* Whether this processor may write one more in this tick. */
static __always_inline int event_is_affordable(__u64 now_ns)
{
	__u64 *tick = event_meter(MALLA_METER_TICK);
	__u64 *used = event_meter(MALLA_METER_USED);
	__u64 now = now_ns >> MALLA_TICK_SHIFT;

	if (!tick || !used)
		return 0;
	if (*tick != now) {
		*tick = now;
		*used = 0;
	}
	if (*used >= MALLA_EVENTS_PER_TICK_MAX)
		return 0;
	(*used)++;
	return 1;
}

static __always_inline __u32 event_identity(const struct malla_address *address)
{
	const struct malla_pod *pod;

	if (address_is_unspecified(address))
		return MALLA_IDENTITY_UNKNOWN;
	pod = pod_find(address);
	return pod && pod->identity ? pod->identity : ipcache_identity(address);
}

/* 0: lost, and counted. */
static __always_inline int event_write(const struct malla_flow_key *tuple,
				       const struct cause *cause, __u64 now_ns)
{
	struct malla_event *event;

	if (!event_is_affordable(now_ns)) {
		event_count(MALLA_METER_RATE);
		return 0;
	}
	event = bpf_ringbuf_reserve(&malla_event, sizeof(*event), 0);
	if (!event) {
		event_count(MALLA_METER_RING_FULL);
		return 0;
	}
	event->time_ns = now_ns;
	event->tuple = *tuple;
	event->source_identity = event_identity(&tuple->source);
	event->target_identity = event_identity(&tuple->target);
	event->rule = cause->rule;
	event->packets = cause->packets;
	event->hook = cause->hook;
	event->verdict = cause->verdict;
	event->direction = cause->direction;
	event->flags = cause->flags;
	event->interface = cause->interface;
	bpf_ringbuf_submit(event, 0);
	event_count(MALLA_METER_WRITTEN);
	return 1;
}

/* One of the sample, or denied by policies that are only being tried. For the verifier. */
__attribute__((noinline)) int event_tell(const struct packet *packet,
					 const struct judgement *judgement, __u32 verdict)
{
	struct cause cause = {.packets = 1, .verdict = (__u8)verdict};

	if (!packet || !judgement)
		return 0;
	cause.rule = judgement->rule;
	cause.direction = (__u8)judgement->direction;
	cause.hook = packet->hook;
	cause.flags = packet->flags;
	return event_write(&judgement->tuple, &cause, bpf_ktime_get_ns());
}

static __always_inline int event_is_sampled(void)
{
	const struct malla_setting *values = setting();

	return values && values->flow_sample && !(bpf_get_prandom_u32() % values->flow_sample);
}

/* A flow was admitted. */
static __always_inline void event_opened(const struct packet *packet,
					 const struct judgement *judgement,
					 enum malla_verdict verdict)
{
	if (verdict == MALLA_VERDICT_AUDITED || event_is_sampled())
		event_tell(packet, judgement, verdict);
}

/* A flow that is not judged here was admitted: the engine has it. */
static __always_inline void event_taken(const struct packet *packet, enum malla_verdict verdict)
{
	struct blank *row = blank();

	if (!row || !event_is_sampled())
		return;
	row->judgement.tuple = packet->flow;
	row->judgement.rule = 0;
	row->judgement.direction = MALLA_EGRESS;
	event_tell(packet, &row->judgement, verdict);
}
