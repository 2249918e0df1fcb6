/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* fragment.h - the ports of packets that come in fragments, of which only the first bears them. */
#pragma once
#include "lib/kernel.h"

/* Written at each first fragment, read at each later one. LRU: nothing tells of the last one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct malla_fragment_key);
	__type(value, struct malla_fragment);
} malla_fragment SEC(".maps");
