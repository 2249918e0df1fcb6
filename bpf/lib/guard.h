/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * guard.h - what holds while a program is missing at its tc hook. Each program that judges packets
 * seals those that it lets pass; behind it stands another, which breaks the seal and drops what has
 * none: nobody has judged that. A packet that goes on by redirection meets no guard.
 *
 * The seal is in the packet's control block, which belongs to the programs of one hook while they
 * run. Others that stand between could write there: the loader attaches guards directly behind.
 */
#pragma once
#include "lib/count.h"
#include "lib/tell.h"

#include "malla_seal.h"

/* The hook's program lets the packet pass, to whatever comes next. */
static __always_inline int guard_seal(struct __sk_buff *skb, enum malla_hook hook)
{
	skb->cb[0] = MALLA_SEAL | (__u32)hook;
	return TCX_NEXT;
}

/* Whether the hook's program has let the packet pass. Asked once. */
static __always_inline int guard_unseal(struct __sk_buff *skb, enum malla_hook hook)
{
	int is_sealed = skb->cb[0] == (MALLA_SEAL | (__u32)hook);

	skb->cb[0] = 0;
	return is_sealed;
}

/*
 * What to do with a packet without a seal: all go but ARP, which no hook judges, so that neighbours
 * do not forget each other meanwhile. `read`: what reading it came to.
 */
static __always_inline int guard_refuse(struct __sk_buff *skb, struct packet *packet,
					enum malla_verdict read)
{
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return TCX_NEXT;
	count_verdict(packet->hook, MALLA_VERDICT_UNGUARDED);
	if (read == MALLA_VERDICT_PASS)
		tell_refused(packet, MALLA_VERDICT_UNGUARDED);
	return TCX_DROP;
}
