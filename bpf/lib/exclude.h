/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * exclude.h - what a pod keeps from the engine: ports and blocks of addresses that it dials, or at
 * which and from which it is dialled.
 */
#pragma once
#include "lib/pod.h"
#include "lib/service.h"

/* Written by BPFLoader/Projection; read where a connection to capture opens of a pod that has any.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_exclude);
	__type(value, __u32); /* MALLA_EXCLUDE_* */
} malla_exclude SEC(".maps");

static __always_inline int exclude_finds(struct malla_exclude *key,
					 const struct malla_address *address)
{
	const __u32 *value;

	key->prefix_bits = 64 + 128;
	if (bpf_map_lookup_elem(&malla_exclude, key))
		return 1;
	key->port_be = 0;
	key->address = *address;
	value = bpf_map_lookup_elem(&malla_exclude, key);
	return value && !(*value == MALLA_EXCLUDE_IP6 && address_is_ip4(address));
}

/* Whether what the pod dials is not to be captured. */
static __always_inline int exclude_holds(const struct malla_pod *pod, const struct malla_end *end)
{
	struct malla_exclude key = {.endpoint = pod->endpoint, .port_be = end->port_be};

	return pod->flags & MALLA_POD_EXCLUDES && exclude_finds(&key, &end->address);
}

/* Whether what somebody dials of the pod is not to be captured. */
static __always_inline int exclude_holds_inbound(const struct malla_pod *pod,
						 const struct malla_flow_key *flow)
{
	struct malla_exclude key = {
	    .endpoint = pod->endpoint,
	    .port_be = flow->target_port_be,
	    .is_inbound = 1,
	};

	return pod->flags & MALLA_POD_EXCLUDES_INBOUND && exclude_finds(&key, &flow->source);
}
