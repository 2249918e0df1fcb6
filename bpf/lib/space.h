/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* space.h - the network namespaces of pods: which interface a socket's packets will come by, and by
 * which devices of the namespace. */
#pragma once
#include "lib/kernel.h"

#include "malla_device.h"

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

/*
 * Devices of these namespaces by which what is sent and received meets the programs, or has nothing
 * to do with them. One that takes the place of a pod's own has another index, and no row. Written
 * by BPFLoader with malla_space; read where that is.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 12288); /* each namespace's own, and 8192 others */
	__type(key, struct malla_device);
	__type(value, __u32);
} malla_device SEC(".maps");

/*
 * Devices of these namespaces that have no row, and were met. Written by hold.h; BPFLoader takes
 * them out at each look.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct malla_device);
	__type(value, __u32);
} malla_asked SEC(".maps");

/* 0: no pod's that is known. */
static __always_inline __u32 space_interface(__u64 namespace_cookie)
{
	const __u32 *interface = bpf_map_lookup_elem(&malla_space, &namespace_cookie);

	return interface ? *interface : 0;
}

static __always_inline int space_has(__u64 namespace_cookie, __u32 device)
{
	struct malla_device key = {.namespace_cookie = namespace_cookie, .index = device};

	return device == LOOPBACK ? space_interface(namespace_cookie) != 0
				  : bpf_map_lookup_elem(&malla_device, &key) != 0;
}

/* 0: there is no room to ask. */
static __always_inline int space_ask(__u64 namespace_cookie, __u32 device)
{
	struct malla_device key = {.namespace_cookie = namespace_cookie, .index = device};
	__u32 one = 1;

	return bpf_map_lookup_elem(&malla_asked, &key) ||
	       !bpf_map_update_elem(&malla_asked, &key, &one, BPF_ANY);
}
