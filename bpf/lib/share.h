/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * share.h - what each endpoint holds of the flow table. Its flows stand in a ring in the order in
 * which they were opened. While it is below its quota the hand passes over what still lives; at the
 * quota the first that is not in use makes room, else the oldest under the hand: a flood of one
 * pod's takes only that pod's flows, its own unanswered ones first. One in use is taken last: of
 * what is translated packet by packet nothing could tell the rest where it goes.
 */
#pragma once
#include "lib/conntrack.h"

/* Written when a flow is opened or taken out; read by BPFLoader. Row 0 is the node's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4097);
	__type(key, __u32);
	__type(value, struct malla_share);
} malla_share SEC(".maps");

/* Written by BPFLoader; read when a flow is opened. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4097);
	__type(key, __u32);
	__type(value, struct malla_quota);
} malla_quota SEC(".maps");

/* Written when a flow is opened; read when its endpoint's hand comes round. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_ring_key);
	__type(value, struct malla_flow_key);
} malla_ring SEC(".maps");

/* Places that the hand looks at for one new flow. */
#define SHARE_PLACES_MAX 16
/* The same at the quota: what a pod opens at once and keeps in use stands in a row. */
#define SHARE_PLACES_FULL_MAX 128
/* An open flow without a packet for so long may make room before others. */
#define SHARE_IDLE_TICKS 60

/* Takes the flow out of the table for its owner's account. */
static __always_inline int share_take_out(struct malla_share *share, struct malla_flow_key *key)
{
	if (bpf_map_delete_elem(&malla_flow, key))
		return 0;
	__sync_fetch_and_add(&share->closed, 1);
	return 1;
}

static __always_inline int share_is_in_use(const struct malla_flow *flow, __u32 now_ticks)
{
	return flow->state == MALLA_FLOW_OPEN &&
	       (__s32)(now_ticks - flow->seen_ticks) < SHARE_IDLE_TICKS;
}

static __always_inline int share_is_full(const struct malla_share *share,
					 const struct malla_quota *quota)
{
	const volatile struct malla_share *now = share;
	/* Before what is opened: one that comes and goes in between is no room. */
	__u64 gone = now->closed;

	gone += ((const volatile struct malla_quota *)quota)->collected;
	return (__s64)(now->opened - gone) >= quota->flows;
}

/* 0: another processor took it out, and may have used the room. */
static __always_inline int share_evict(struct malla_share *share, struct malla_flow_key *place)
{
	if (!share_take_out(share, place))
		return 0;
	__sync_fetch_and_add(&share->evicted, 1);
	return 1;
}

enum share_visit {
	/* At the quota: no flow is there, or another processor's is about to come: no room. */
	SHARE_EMPTY,
	SHARE_USED,
	SHARE_TAKEN, /* the place, and room in the quota, is the new flow's */
};

/* What lives and is idle there yields at the quota; what is over, always. */
static __always_inline enum share_visit share_yields(struct malla_share *share, __u32 owner,
						     struct malla_flow_key *place, int is_full)
{
	struct malla_flow *flow = bpf_map_lookup_elem(&malla_flow, place);
	__u32 now_ticks = flow_now();

	if (!flow || flow->owner != owner)
		return is_full ? SHARE_EMPTY : SHARE_TAKEN;
	if (flow_is_over(flow, now_ticks))
		return share_take_out(share, place) || !is_full ? SHARE_TAKEN : SHARE_EMPTY;
	if (!is_full || share_is_in_use(flow, now_ticks))
		return SHARE_USED;
	return share_evict(share, place) ? SHARE_TAKEN : SHARE_EMPTY;
}

/* Tries one place of the owner's ring for a flow. A function of its own for the verifier: else it
 * walks through all of this at each turn of the hand. */
__attribute__((noinline)) int share_visit(const struct malla_flow_key *key, __u32 owner,
					  __u32 number, int is_full)
{
	struct malla_share *share = bpf_map_lookup_elem(&malla_share, &owner);
	struct malla_ring_key at = {.endpoint = owner, .place = number};
	struct malla_flow_key *place = bpf_map_lookup_elem(&malla_ring, &at);
	enum share_visit found;

	if (!key || !share)
		return SHARE_EMPTY;
	if (!place) {
		/* The hand's first round fills the ring before the quota is: beyond it is room for
		 * as many as an older agent has left, which have no place. A flow without one
		 * could not be evicted, so where there is none the quota is the end. */
		if (bpf_map_update_elem(&malla_ring, &at, key, BPF_ANY) && is_full)
			return SHARE_EMPTY;
		return SHARE_TAKEN;
	}
	found = share_yields(share, owner, place, is_full);
	if (found == SHARE_TAKEN)
		*place = *key;
	return found;
}

/* At the quota, where all that there are are in use: the oldest gives up its place. 0: another
 * processor took that one out, and the room is gone. */
static __always_inline int share_replace(struct malla_share *share, const struct malla_quota *quota,
					 const struct malla_ring_key *at,
					 const struct malla_flow_key *key)
{
	struct malla_flow_key *place = bpf_map_lookup_elem(&malla_ring, at);

	if (!place || (!share_evict(share, place) && share_is_full(share, quota)))
		return 0;
	*place = *key;
	return 1;
}

/*
 * Finds a place for a flow of `owner` that is about to be opened, and room for it in the owner's
 * quota: beyond it is at most one for each other processor. 0: there is none. A function of its
 * own for the verifier.
 */
__attribute__((noinline)) int share_admit(const struct malla_flow_key *key, __u32 owner)
{
	struct malla_share *share = bpf_map_lookup_elem(&malla_share, &owner);
	struct malla_quota *quota = bpf_map_lookup_elem(&malla_quota, &owner);
	struct malla_ring_key oldest = {.endpoint = owner};
	int is_candidate = 0;
	__u32 passed = 0; /* places up to the oldest */
	__u32 looks;
	int is_full;

	if (!key || !share || !quota || !quota->flows)
		return 0;
	is_full = share_is_full(share, quota);
	looks = is_full ? SHARE_PLACES_FULL_MAX : SHARE_PLACES_MAX;
	if (quota->flows < looks)
		looks = quota->flows;
	for (__u32 look = 0; look < SHARE_PLACES_FULL_MAX && look < looks; look++) {
		__u32 number = (__u32)__sync_fetch_and_add(&share->hand, 1) % quota->flows;
		int found = share_visit(key, owner, number, is_full);

		if (found == SHARE_TAKEN)
			goto admitted;
		if (found != SHARE_USED || is_candidate)
			continue;
		is_candidate = 1;
		oldest.place = number;
		passed = look + 1;
	}
	/* Below the quota it does without a place: it cannot be evicted until it is over. */
	if (is_full && is_candidate) {
		if (!share_replace(share, quota, &oldest, key))
			return 0;
		/* The next one finds the next oldest, and not what was opened a round ago. */
		__sync_fetch_and_sub(&share->hand, looks - passed);
	} else if (is_full && share_is_full(share, quota)) {
		return 0;
	}
admitted:
	__sync_fetch_and_add(&share->opened, 1);
	return 1;
}

/* The flow was not opened after all. */
static __always_inline void share_give_back(__u32 owner)
{
	struct malla_share *share = bpf_map_lookup_elem(&malla_share, &owner);

	if (share)
		__sync_fetch_and_add(&share->closed, 1);
}
