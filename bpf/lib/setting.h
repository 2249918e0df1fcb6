/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* setting.h - what the loader tells the programs about this node. */
#pragma once
#include "lib/kernel.h"

/* Written by BPFLoader before anything is attached, and when the engine or its listeners change. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct malla_setting);
} malla_setting SEC(".maps");

/* Never null in practice: an array of one row. */
static __always_inline const struct malla_setting *setting(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&malla_setting, &first);
}

/* The interface of the engine's veth; 0: there is no engine. */
static __always_inline __u32 setting_engine(void)
{
	const struct malla_setting *values = setting();

	return values ? values->engine : 0;
}
