/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* space.h - the network namespaces of pods: which interface a socket's packets will come by. */
#pragma once
#include "lib/kernel.h"

/*
 * Network namespaces, by cookie, behind interfaces whose programs are attached and whose pods' rows
 * are all there. Written by BPFLoader after those; read at each packet that hold.h asks about, and
 * where a socket is refused.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32); /* the interface */
} malla_space SEC(".maps");

/* 0: no pod's that is known. */
static __always_inline __u32 space_interface(__u64 namespace_cookie)
{
	const __u32 *interface = bpf_map_lookup_elem(&malla_space, &namespace_cookie);

	return interface ? *interface : 0;
}
