/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * to_listener.h - sk_lookup in the engine's namespace: a connection that a pod opened looks for its
 * listener. The worker is chosen by the tuple, never at random: a SYN cookie is good only at the
 * listener that made it.
 *
 * Fails closed: what nothing captured, and what no worker listens for, is reset. Linux 5.9.
 */
#pragma once
#include <stddef.h>

#include "lib/capture.h"
#include "lib/count.h"
#include "lib/tell.h"

static __always_inline struct malla_flow_key listener_flow(struct bpf_sk_lookup *ctx)
{
	struct malla_flow_key flow = {
	    .protocol = (__u8)ctx->protocol,
	    .source_port_be = (__u16)ctx->remote_port,
	    .target_port_be = bpf_htons((__u16)ctx->local_port),
	};

	if (ctx->family == AF_INET) {
		address_from_ip4(&flow.source, ctx->remote_ip4);
		address_from_ip4(&flow.target, ctx->local_ip4);
		return flow;
	}
#pragma unroll
	for (__u32 word = 0; word < 4; word++) {
		__u32 source = offsetof(struct bpf_sk_lookup, remote_ip6) + 4 * word;
		__u32 target = offsetof(struct bpf_sk_lookup, local_ip6) + 4 * word;

		flow.source.words_be[word] = CONTEXT_WORD(ctx, source);
		flow.target.words_be[word] = CONTEXT_WORD(ctx, target);
	}
	return flow;
}

/*
 * The engine dials the tunnels of one pod to another from different parts of its ports
 * (L7Engine/Worker+Forward.swift), so that each is another worker's. The ports themselves say
 * nothing: between one dial and the next Linux leaves out up to seven, at random (5.18).
 */
#define LISTENER_PARTS	    4
#define LISTENER_PART_PORTS 567

/* Whose rest by the number of workers is chosen. */
static __always_inline __u32 listener_choice(const struct malla_flow_key *key)
{
	struct malla_flow_key ends = *key;
	__u32 port = (__u32)bpf_ntohs(key->source_port_be) - MALLA_ENGINE_PORT_MIN;

	if (key->target_port_be != bpf_htons(MALLA_HBONE_PORT) ||
	    port >= LISTENER_PARTS * LISTENER_PART_PORTS)
		return flow_hash(key);
	ends.source_port_be = 0;
	return flow_hash(&ends) + port / LISTENER_PART_PORTS;
}

/* Assigns the listener when it answers MALLA_VERDICT_ASSIGNED. */
static __always_inline enum malla_verdict listener_assign(struct bpf_sk_lookup *ctx,
							  const struct malla_flow_key *key)
{
	struct sight sight;
	const struct malla_setting *values = setting();
	struct bpf_sock *listener;
	__u32 index;
	long refused;

	flow_see(key, &sight);
	if (!sight.flow || !flow_is_engines(sight.flow, sight.is_back))
		return MALLA_VERDICT_NO_FLOW;
	if (!values || !values->listeners)
		return MALLA_VERDICT_NO_LISTENER;
	index = listener_choice(key) % values->listeners;
	listener = bpf_map_lookup_elem(&malla_listen, &index);
	if (!listener)
		return MALLA_VERDICT_NO_LISTENER;
	/* Without the flag a SO_REUSEPORT group would choose again. */
	refused = bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(listener);
	return refused ? MALLA_VERDICT_FAILED : MALLA_VERDICT_ASSIGNED;
}

SEC("sk_lookup")
int malla_listener(struct bpf_sk_lookup *ctx)
{
	struct packet packet = {.hook = MALLA_HOOK_TO_LISTENER};
	enum malla_verdict verdict;

	packet.flow = listener_flow(ctx);
	verdict = listener_assign(ctx, &packet.flow);
	count_verdict(MALLA_HOOK_TO_LISTENER, verdict);
	if (verdict == MALLA_VERDICT_ASSIGNED)
		return SK_PASS;
	tell_refused(&packet, verdict);
	return SK_DROP;
}
