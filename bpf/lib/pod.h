/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* pod.h - the pods of this node, by address. */
#pragma once
#include "lib/kernel.h"

/* Written by BPFLoader/Projection; read at each SYN of a pod and each packet of the engine. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct malla_address);
	__type(value, struct malla_pod);
} malla_pod SEC(".maps");

static __always_inline const struct malla_pod *pod_find(const struct malla_address *address)
{
	return bpf_map_lookup_elem(&malla_pod, address);
}

/*
 * Interfaces of pods whose rows are all there. Written by BPFLoader/Projection after those; read
 * where no pod is found.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32); /* the pod's endpoint */
} malla_place SEC(".maps");

/* Whether the pod behind the interface is as the configuration says. */
static __always_inline int pod_is_ready(__u32 interface)
{
	return bpf_map_lookup_elem(&malla_place, &interface) != 0;
}

/* The node's side of the pod's veth; 0: no local pod has the address. */
static __always_inline __u32 pod_interface(const struct malla_address *address)
{
	const struct malla_pod *pod = pod_find(address);

	return pod ? pod->interface : 0;
}
