/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * capture.h - the ways into the engine's network namespace: by packet, over its veth; and the
 * listeners that wait there.
 */
#pragma once
#include "lib/conntrack.h"
#include "lib/setting.h"

/*
 * On packets that from_engine sends up the node's stack as if their client had sent them; set and
 * read within the node's namespace (a veth clears what a pod sets) and cleared when seen.
 */
#define MALLA_MARK_RETURNED 0x4d410001
/* On what nudge.h sends to a pod, or to the engine: the same, at their interfaces. */
#define MALLA_MARK_NUDGED 0x4d410003

/* Written by BPFLoader (`serve`), one listening socket a worker; read at each new connection. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, MALLA_LISTENERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} malla_listen SEC(".maps");

/*
 * Whether a new connection may be given to the engine: somebody listens, and the interface is
 * there. Sockets leave the map when they are closed; the interface outlives them for as long as one
 * of the engine's connections has something left to say. Linux 5.12 (bpf_check_mtu).
 */
static __always_inline int capture_is_served(struct __sk_buff *skb)
{
	const struct malla_setting *values = setting();
	struct bpf_sock *listener;
	__u32 first = 0;
	__u32 mtu = 0;

	if (!values || !values->engine || !values->listeners)
		return 0;
	listener = bpf_map_lookup_elem(&malla_listen, &first);
	if (!listener)
		return 0;
	bpf_sk_release(listener);
	return bpf_check_mtu(skb, values->engine, &mtu, 0, 0) != -ENODEV;
}

/* Which verdict a packet of the engine's gets; `is_peer` says how the hook will send it. */
static __always_inline enum malla_verdict capture_packet(const struct packet *packet)
{
	if (!setting_engine())
		return MALLA_VERDICT_NO_ENGINE;
	return packet->is_icmp ? MALLA_VERDICT_ICMP_TO_ENGINE : MALLA_VERDICT_TO_ENGINE;
}

/* Verdicts after which a hook hands the packet to the engine. */
static __always_inline int capture_is_engines(enum malla_verdict verdict)
{
	return verdict == MALLA_VERDICT_CAPTURED || verdict == MALLA_VERDICT_TO_ENGINE ||
	       verdict == MALLA_VERDICT_ICMP_TO_ENGINE || verdict == MALLA_VERDICT_STRAY_TO_ENGINE;
}

/* Straight into the engine's namespace, from an ingress hook. Linux 5.10. */
static __always_inline int capture_redirect_peer(void)
{
	return (int)bpf_redirect_peer(setting_engine(), 0);
}

/*
 * The same from an egress hook, where redirect_peer is not to be had: out of the node's side of
 * the veth. Both its ends have one MAC, which must be in the packet or the engine's side takes it
 * for somebody else's.
 */
static __always_inline int capture_redirect(struct __sk_buff *skb)
{
	const struct malla_setting *values = setting();

	if (!values || bpf_skb_store_bytes(skb, 0, values->engine_mac, ETH_ALEN, 0))
		return TCX_DROP;
	return (int)bpf_redirect(values->engine, 0);
}
