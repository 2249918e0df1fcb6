/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * tell.h - what the hooks tell of packets that they drop or refuse: an event for the first of a
 * tuple, then one every MALLA_EVENT_QUIET_NS while more come. Called on that path only.
 */
#pragma once
#include "lib/judge.h"

/* Packets of the tuple that no event has told of, this one included; 0: told lately. */
static __always_inline __u32 tell_count(const struct malla_flow_key *tuple, __u32 verdict,
					__u64 now_ns)
{
	struct malla_denied *row = bpf_map_lookup_elem(&malla_denied, tuple);

	if (!row || row->verdict != verdict)
		return 1;
	if (now_ns - row->told_ns >= MALLA_EVENT_QUIET_NS)
		return row->packets + 1;
	__sync_fetch_and_add(&row->packets, 1);
	event_count(MALLA_METER_REPEATED);
	return 0;
}

static __always_inline __u8 tell_direction(__u8 hook)
{
	switch (hook) {
	case MALLA_HOOK_TO_POD:
	case MALLA_HOOK_UPLINK:
	case MALLA_HOOK_OUTSIDE:
	case MALLA_HOOK_TO_SOCKET:
		return MALLA_INGRESS;
	default:
		return MALLA_EGRESS;
	}
}

/* Verdicts that leave in malla_blank who decided. */
static __always_inline int tell_is_judged(__u32 verdict)
{
	return verdict == MALLA_VERDICT_DENIED_EGRESS || verdict == MALLA_VERDICT_DENIED_INGRESS ||
	       verdict == MALLA_VERDICT_CUT || verdict == MALLA_VERDICT_PLAIN_REFUSED;
}

/* By which what was told is known. Sockets that have no source yet are their pods' own: no packet
 * comes from such an address, and from port 0. */
static __always_inline struct malla_flow_key tell_key(const struct packet *packet)
{
	struct malla_flow_key key = packet->flow;

	if (packet->interface)
		key.source.words_be[3] = packet->interface;
	return key;
}

/* The packet goes nowhere. A function of its own for the verifier; what it answers means nothing.
 */
__attribute__((noinline)) int tell_refused(struct packet *packet, __u32 verdict)
{
	struct malla_denied told = {};
	struct cause cause = {.verdict = (__u8)verdict};
	struct blank *row = blank();
	struct malla_flow_key key;
	int is_written;

	if (!packet || !row)
		return 0;
	told.told_ns = bpf_ktime_get_ns();
	told.verdict = (__u8)verdict;
	key = tell_key(packet);
	cause.packets = tell_count(&key, verdict, told.told_ns);
	if (!cause.packets)
		return 0;
	cause.hook = packet->hook;
	cause.flags = packet->flags;
	cause.interface = packet->interface;
	cause.direction = tell_direction(packet->hook);
	if (tell_is_judged(verdict)) {
		cause.rule = row->judgement.rule;
		cause.direction = (__u8)row->judgement.direction;
		is_written = event_write(&row->judgement.tuple, &cause, told.told_ns);
	} else {
		is_written = event_write(&packet->flow, &cause, told.told_ns);
	}
	if (is_written)
		bpf_map_update_elem(&malla_denied, &key, &told, BPF_ANY);
	return is_written;
}
