/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * policy.h - what the policies of one pod say of one peer and port. The compiler has resolved
 * tiers, priorities and unions into disjoint rows, so that the longest match is the answer.
 */
#pragma once
#include "lib/kernel.h"

/* Written by BPFLoader/Projection; read when a flow is judged. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_policy_key);
	__type(value, struct malla_policy);
} malla_policy SEC(".maps");

/* Written by BPFLoader/Projection, after the rows of malla_policy; read before them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct malla_set);
} malla_set SEC(".maps");

/* One question to the policies of a pod. */
struct policy_question {
	__u32 set;
	__u32 identity; /* of the peer */
	__u16 port_be;	/* of the pod that would receive; 0 where the protocol has none */
	__u8 direction; /* enum malla_direction */
	__u8 protocol;
	__u8 is_ipv6;
};

struct policy_answer {
	__u32 rule;
	__u8 verdict; /* enum malla_policy_verdict */
	__u8 is_audited;
};

static __always_inline const struct malla_policy *policy_row(const struct policy_question *question,
							     __u32 identity)
{
	struct malla_policy_key key = {
	    .prefix_bits = MALLA_POLICY_EXACT_BITS,
	    .set_be = bpf_htonl(question->set),
	    .identity_be = bpf_htonl(identity),
	    .direction = question->direction,
	    .protocol = question->protocol,
	    .port_be = question->port_be,
	};

	return bpf_map_lookup_elem(&malla_policy, &key);
}

/* A set without a row denies: its pods are known, its policies are not. */
static __always_inline struct policy_answer policy_ask(const struct policy_question *question)
{
	struct policy_answer answer = {.verdict = MALLA_POLICY_ALLOW};
	const struct malla_policy *row;
	const struct malla_set *set;

	if (!question->set)
		return answer;
	row = policy_row(question, question->identity);
	if (!row)
		row = policy_row(question, question->is_ipv6 ? MALLA_IDENTITY_ANY_IPV6
							     : MALLA_IDENTITY_UNKNOWN);
	if (row) {
		answer.rule = row->rule;
		answer.verdict = row->verdict;
		answer.is_audited = row->flags & MALLA_POLICY_AUDIT;
		return answer;
	}
	set = bpf_map_lookup_elem(&malla_set, &question->set);
	answer.verdict = set ? set->verdicts[question->direction & 1] : MALLA_POLICY_DENY;
	answer.is_audited = set && (set->flags & MALLA_SET_AUDIT);
	return answer;
}
