/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* mode.h - which ports of this node's pods insist on mutual TLS
 * (PeerAuthentication). */
#pragma once
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

static __always_inline int mode_is_strict(const struct malla_pod *pod, __u16 port_be)
{
	struct malla_mode_key key = {.endpoint = pod->endpoint, .port_be = port_be};
	const __u32 *mode;

	if (pod->flags & MALLA_POD_MODES) {
		mode = bpf_map_lookup_elem(&malla_mode, &key);
		if (mode)
			return *mode == MALLA_MODE_STRICT;
	}
	return !!(pod->flags & MALLA_POD_STRICT);
}
