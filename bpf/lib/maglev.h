/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * maglev.h - a group's table: which slot a hash falls upon. The agent computes it (MeshModel,
 * Maglev.swift); every node has the same, so that a connection that reaches another node of a
 * load balancer in mid-stream still meets its endpoint.
 */
#pragma once
#include "lib/kernel.h"

/*
 * A table in pieces of MALLA_MAGLEV_BYTES; a position is one byte, or two (low byte first) in
 * groups of more than 256 endpoints. Written by BPFLoader/Projection before the row that names
 * its size; read once per connection. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_maglev_key);
	__type(value, struct malla_maglev);
} malla_maglev SEC(".maps");

/* The slot for `hash`; without a table, by its remainder. */
static __always_inline __u32 maglev_slot(const struct malla_group *group, __u32 hash)
{
	__u32 width = group->endpoints > 256 ? 2 : 1;
	struct malla_maglev_key key = {.group = group->id};
	const struct malla_maglev *piece;
	__u32 at, slot;

	if (group->positions) {
		at = hash % group->positions * width;
		key.piece = at / MALLA_MAGLEV_BYTES;
		piece = bpf_map_lookup_elem(&malla_maglev, &key);
		at &= MALLA_MAGLEV_BYTES - 1;
		if (piece) {
			slot = piece->positions[at];
			if (width == 2)
				slot |= (__u32)piece->positions[at | 1] << 8;
			/* A row that was just replaced may count fewer. */
			if (slot < group->endpoints)
				return slot;
		}
	}
	return group->endpoints ? hash % group->endpoints : 0;
}
