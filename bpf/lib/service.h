/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* service.h - a virtual address, port and protocol: which service that is. */
#pragma once
#include "lib/kernel.h"

/*
 * Written by BPFLoader/Projection at each change of configuration; read at each connect(2) and at
 * each SYN of a pod. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct malla_end);
	__type(value, struct malla_service);
} malla_service SEC(".maps");

static __always_inline const struct malla_service *service_find(const struct malla_end *end)
{
	return bpf_map_lookup_elem(&malla_service, end);
}

static __always_inline int service_is_captured(const struct malla_service *service)
{
	return (service->flags & MALLA_SERVICE_CAPTURED) != 0;
}
