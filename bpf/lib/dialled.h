/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* dialled.h - which service address a socket dialled, so that the application goes on seeing it. */
#pragma once
#include "lib/kernel.h"

#include "malla_dialled.h"

/*
 * Written at connect(2) and sendto(2) to a service; read by getpeername(2) and recvmsg(2), and by
 * the agent when an endpoint is gone, whose sockets it then resets. An LRU hash, because nothing
 * tells of a closed socket; what is lost with an old entry is the translation of the name (the
 * application sees the endpoint's address) and that reset. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct malla_dialled_key);
	__type(value, struct malla_dialled);
} malla_dialled SEC(".maps");

static __always_inline const struct malla_dialled *dialled_find(__u64 socket_cookie,
								const struct malla_end *endpoint)
{
	struct malla_dialled_key key = {.socket_cookie = socket_cookie, .endpoint = *endpoint};

	return bpf_map_lookup_elem(&malla_dialled, &key);
}

static __always_inline void dialled_record(__u64 socket_cookie, const struct malla_end *endpoint,
					   const struct malla_dialled *dialled)
{
	struct malla_dialled_key key = {.socket_cookie = socket_cookie, .endpoint = *endpoint};

	bpf_map_update_elem(&malla_dialled, &key, dialled, BPF_ANY);
}
