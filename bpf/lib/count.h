/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* count.h - every verdict is counted, by hook; there is no other counter on the packet path. */
#pragma once
#include "lib/kernel.h"

/* Written by every hook at every event; read and summed over the processors by BPFLoader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MALLA_HOOKS_MAX *MALLA_VERDICTS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} malla_count SEC(".maps");

static __always_inline void count_verdict(enum malla_hook hook, enum malla_verdict verdict)
{
	__u32 index = (__u32)hook * MALLA_VERDICTS_MAX + (__u32)verdict;
	__u64 *count = bpf_map_lookup_elem(&malla_count, &index);

	if (count)
		(*count)++;
}
