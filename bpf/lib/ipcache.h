/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ipcache.h - who is at an address: the identity that policies know. */
#pragma once
#include "lib/kernel.h"

#define IPCACHE_ADDRESS_BITS 128

/* Written by BPFLoader/Projection; read when a flow is judged. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_prefix);
	__type(value, struct malla_identity);
} malla_ipcache SEC(".maps");

/* An address that no row knows is the world's. */
static __always_inline __u32 ipcache_identity(const struct malla_address *address)
{
	struct malla_prefix key = {.prefix_bits = IPCACHE_ADDRESS_BITS, .address = *address};
	const struct malla_identity *row = bpf_map_lookup_elem(&malla_ipcache, &key);

	return row ? row->identity : MALLA_IDENTITY_WORLD;
}
