/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * vouch.h - which of the node's own connections are the engine's, dialled for somebody whom it has
 * judged itself (a Gateway's client, a pod that calls itself): policies are not asked about the
 * node then. The agent's sockets are marked when they connect, by their priority: unlike a mark it
 * means nothing to routes and netfilter, and stays the socket's whatever they do to a packet.
 */
#pragma once
#include "lib/kernel.h"

/* No queueing discipline has a class of this name; only root may set it by itself. */
#define VOUCH_PRIORITY 0x4d410002

/* At connect(2). A socket without it is judged as any of the node's. Linux 5.8. */
static __always_inline void vouch_for(struct bpf_sock_addr *ctx)
{
	int priority = VOUCH_PRIORITY;

	bpf_setsockopt(ctx, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority));
}

/* Whether the packet leaves such a socket; a pod's source is known not to be the node's. */
static __always_inline int vouch_holds(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	return sk && sk->priority == VOUCH_PRIORITY;
}
