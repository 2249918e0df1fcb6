/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* share.h - what each endpoint holds of the flow table, and how much it may. */
#pragma once
#include "lib/kernel.h"

/* Written when a flow is opened or taken out; read by BPFLoader. Row 0 is the node's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4097);
	__type(key, __u32);
	__type(value, struct malla_share);
} malla_share SEC(".maps");

/* Written by BPFLoader; read when a flow is opened. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4097);
	__type(key, __u32);
	__type(value, struct malla_quota);
} malla_quota SEC(".maps");

/* Written when a flow is opened; read when its endpoint has used up its quota. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_ring_key);
	__type(value, struct malla_flow_key);
} malla_ring SEC(".maps");
