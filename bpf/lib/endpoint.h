/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* endpoint.h - the ready endpoints of a service, and the choice of one. */
#pragma once
#include "lib/service.h"

/*
 * Written by BPFLoader/Projection: new slots before the service's row that counts them, removed
 * ones after it; read once per connection. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__type(key, struct malla_endpoint_key);
	__type(value, struct malla_end);
} malla_endpoint SEC(".maps");

/* The endpoint that `number`, random or a hash, falls upon; null: there is none. */
static __always_inline const struct malla_end *endpoint_pick(const struct malla_service *service,
							     __u32 number)
{
	__u32 count = service->endpoints;
	struct malla_endpoint_key key = {.service = service->id};

	if (!count)
		return 0;
	key.slot = number % count;
	return bpf_map_lookup_elem(&malla_endpoint, &key);
}
