/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* peer.h - the pods of other nodes, and to which of them tunnels lead, as far as there is room to
 * say so. */
#pragma once
#include "lib/kernel.h"

#include "malla_mode.h"

/* Written by BPFLoader/Projection; read where a connection between a pod of this node and another
 * opens, and where the engine dials the port of tunnels. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_address);
	__type(value, __u32); /* MALLA_PEER_* */
} malla_peer SEC(".maps");

/*
 * Blocks that hold every pod to which tunnels lead and for which malla_peer had no room. What opens
 * towards the rest of such a block is the engine's too, which knows who is a pod: nothing that may
 * need a tunnel passes it. Nodes within have rows in malla_peer that say that they are no pods.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 256); /* old and new ones, and those of a load that broke off */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_prefix);
	__type(value, __u32); /* 1 */
} malla_unlisted SEC(".maps");

/* Or may, where there was no room to say so. */
static __always_inline int peer_speaks_hbone(const struct malla_address *address)
{
	const __u32 *flags = bpf_map_lookup_elem(&malla_peer, address);
	struct malla_prefix key = {.prefix_bits = 128, .address = *address};

	if (flags)
		return *flags & MALLA_PEER_HBONE;
	return bpf_map_lookup_elem(&malla_unlisted, &key) != 0;
}

/* MALLA_PEER_*; 0: no pod of another node, as far as is known. */
static __always_inline __u32 peer_flags(const struct malla_address *address)
{
	const __u32 *flags = bpf_map_lookup_elem(&malla_peer, address);

	return flags ? *flags : 0;
}

static __always_inline int peer_is_pod(const struct malla_address *address)
{
	return !!(peer_flags(address) & MALLA_PEER_POD);
}
