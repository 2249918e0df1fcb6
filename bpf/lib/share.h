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

/* What is at one place of the ring. */
enum share_place { SHARE_FREE, SHARE_IDLE, SHARE_USED };

static __always_inline enum share_place share_look(struct malla_share *share, __u32 owner,
						   struct malla_flow_key *place, __u32 now_ticks)
{
	struct malla_flow *flow = bpf_map_lookup_elem(&malla_flow, place);

	if (!flow || flow->owner != owner)
		return SHARE_FREE;
	if (flow_is_over(flow, now_ticks)) {
		share_take_out(share, place);
		return SHARE_FREE;
	}
	return share_is_in_use(flow, now_ticks) ? SHARE_USED : SHARE_IDLE;
}

static __always_inline void share_evict(struct malla_share *share, struct malla_flow_key *place)
{
	if (share_take_out(share, place))
		__sync_fetch_and_add(&share->evicted, 1);
}

/*
 * Finds a place for a flow of `owner` that is about to be opened, and room for it in the owner's
 * quota. 0: there is none. A function of its own for the verifier.
 */
__attribute__((noinline)) int share_admit(const struct malla_flow_key *key, __u32 owner)
{
	struct malla_share *share = bpf_map_lookup_elem(&malla_share, &owner);
	struct malla_quota *quota = bpf_map_lookup_elem(&malla_quota, &owner);
	struct malla_ring_key at = {.endpoint = owner};
	struct malla_flow_key *place;
	__u32 now_ticks = flow_now();
	__u32 oldest = 0;
	int is_candidate = 0;
	__u32 looks;
	int is_full;

	if (!key || !share || !quota || !quota->flows)
		return 0;
	is_full = (__s64)(share->opened - share->closed - quota->collected) >= quota->flows;
	looks = is_full ? SHARE_PLACES_FULL_MAX : SHARE_PLACES_MAX;
	if (quota->flows < looks)
		looks = quota->flows;
	for (__u32 look = 0; look < SHARE_PLACES_FULL_MAX && look < looks; look++) {
		enum share_place held;

		at.place = (__u32)__sync_fetch_and_add(&share->hand, 1) % quota->flows;
		place = bpf_map_lookup_elem(&malla_ring, &at);
		if (!place) {
			/* Without a place it could not be evicted, so the quota is the end. */
			if (bpf_map_update_elem(&malla_ring, &at, key, BPF_ANY) && is_full)
				return 0;
			goto admitted;
		}
		held = share_look(share, owner, place, now_ticks);
		if (held == SHARE_IDLE && is_full)
			share_evict(share, place);
		if (held == SHARE_FREE || (held == SHARE_IDLE && is_full)) {
			*place = *key;
			goto admitted;
		}
		if (!is_candidate)
			oldest = at.place;
		is_candidate = 1;
	}
	/* Below the quota it does without a place: it cannot be evicted until it is over. */
	if (is_full) {
		at.place = oldest;
		place = bpf_map_lookup_elem(&malla_ring, &at);
		if (!place)
			return 0;
		share_evict(share, place);
		*place = *key;
		/* The next one finds the next oldest, and not what was opened a round ago. */
		__sync_fetch_and_sub(&share->hand, looks - 1);
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
