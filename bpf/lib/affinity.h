/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * affinity.h - sessionAffinity ClientIP: a client keeps its endpoint until it has been away for the
 * service's time. At the socket a client is a network namespace (a pod has one), at an interface it
 * is the source address.
 */
#pragma once
#include "lib/kernel.h"

/*
 * Written and read at each new connection to a service with affinity. An LRU hash: what is lost
 * with an old entry is that one client chooses anew. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct malla_affinity_key);
	__type(value, struct malla_affinity);
} malla_affinity SEC(".maps");

/*
 * Which endpoints are in a group; groups of services with affinity only. Written by
 * BPFLoader/Projection, read where a client is remembered. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_member);
	__type(value, __u32);
} malla_member SEC(".maps");

/* 1: `endpoint` is what the client had, and still may have. */
static __always_inline int affinity_recall(const struct malla_affinity_key *client, __u32 seconds,
					   struct malla_end *endpoint)
{
	struct malla_affinity *had = bpf_map_lookup_elem(&malla_affinity, client);
	struct malla_member member = {.group = client->group};
	__u64 now = bpf_ktime_get_ns();

	if (!had || now - had->seen_ns > (__u64)seconds * 1000000000ull)
		return 0;
	member.endpoint = had->endpoint;
	if (!bpf_map_lookup_elem(&malla_member, &member))
		return 0;
	*endpoint = had->endpoint;
	had->seen_ns = now;
	return 1;
}

static __always_inline void affinity_remember(const struct malla_affinity_key *client,
					      const struct malla_end *endpoint)
{
	struct malla_affinity has = {.endpoint = *endpoint, .seen_ns = bpf_ktime_get_ns()};

	bpf_map_update_elem(&malla_affinity, client, &has, BPF_ANY);
}
