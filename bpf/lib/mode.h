/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* mode.h - which ports of this node's pods insist on mutual TLS
 * (PeerAuthentication), and which of pods elsewhere do that cannot have it. */
#pragma once
#include "lib/peer.h"
#include "lib/pod.h"

#include "malla_mode.h"

/* Written by BPFLoader/Projection, before the pods that it is of; read where
 * somebody opens a plain connection to a pod that has any row. The loader sets
 * the size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct malla_mode_key);
	__type(value, __u32); /* MALLA_MODE_* */
} malla_mode SEC(".maps");

static __always_inline int mode_of(__u32 endpoint, __u16 port_be, int otherwise)
{
	struct malla_mode_key key = {.endpoint = endpoint, .port_be = port_be};
	const __u32 *mode = bpf_map_lookup_elem(&malla_mode, &key);

	return mode ? *mode == MALLA_MODE_STRICT : otherwise;
}

static __always_inline int mode_is_strict(const struct malla_pod *pod, __u16 port_be)
{
	int is_strict = !!(pod->flags & MALLA_POD_STRICT);

	return pod->flags & MALLA_POD_MODES ? mode_of(pod->endpoint, port_be, is_strict)
					    : is_strict;
}

/*
 * Of a pod elsewhere: nobody refuses plain text for it there, where no agent is, and a tunnel it
 * cannot have. `flags` are those of malla_peer.
 */
static __always_inline int mode_is_strict_far(__u32 flags, __u16 port_be)
{
	int is_strict = !!(flags & MALLA_PEER_STRICT);

	return flags & MALLA_PEER_MODES
		   ? mode_of(MALLA_MODE_FAR | flags >> MALLA_PEER_SHIFT, port_be, is_strict)
		   : is_strict;
}
