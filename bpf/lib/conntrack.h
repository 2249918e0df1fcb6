/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conntrack.h - the flow table: one entry decides. The verdict is made at the SYN and kept here,
 * keyed by the tuple exactly as a packet bears it; every later packet follows it, so a change of
 * configuration never cuts a connection in two.
 *
 * The table is an LRU hash for now: when it is full, the entry unused for longest goes, whosever it
 * is, and an idle connection of another pod may be the one. Such a connection lives on where the
 * engine speaks next (from_engine records it anew) or where the pod does (a stray packet to a
 * captured service is the engine's to answer). A share per endpoint, which ends that, is a later
 * step.
 */
#pragma once
#include "lib/fragment.h"
#include "lib/ipcache.h"
#include "lib/packet.h"
#include "lib/policy.h"
#include "lib/share.h"

/* Written by from_pod and from_engine at each SYN; read at each packet. The loader sizes it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct malla_flow_key);
	__type(value, struct malla_flow);
} malla_flow SEC(".maps");

static __always_inline const struct malla_flow *flow_find(const struct malla_flow_key *key)
{
	return bpf_map_lookup_elem(&malla_flow, key);
}

/* 0: recorded. */
static __always_inline long flow_put(const struct malla_flow_key *key,
				     const struct malla_flow *flow)
{
	return bpf_map_update_elem(&malla_flow, key, flow, BPF_ANY);
}

static __always_inline long flow_record(const struct malla_flow_key *key, enum malla_flow_kind kind,
					__u32 interface)
{
	struct malla_flow flow = {.kind = kind, .interfaces = {interface, 0}};

	return flow_put(key, &flow);
}

static __always_inline void flow_forget(const struct malla_flow_key *key)
{
	bpf_map_delete_elem(&malla_flow, key);
}

/* Packets of this flow are the engine's to receive. */
static __always_inline int flow_is_engines(const struct malla_flow *flow)
{
	return flow && (flow->kind == MALLA_FLOW_CAPTURED || flow->kind == MALLA_FLOW_DIALLED);
}

/*
 * Whether a connection that opens here uses a tuple on which the engine has dialled: its SYN-ACK
 * would go to the engine.
 */
static __always_inline int flow_engine_holds(const struct packet *packet)
{
	struct malla_flow_key back;
	const struct malla_flow *flow;

	if (!packet_opens(packet) || !packet_from_engine_port(packet))
		return 0;
	back = flow_reversed(&packet->flow);
	flow = flow_find(&back);
	return flow && flow->kind == MALLA_FLOW_DIALLED;
}
