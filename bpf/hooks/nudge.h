/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * nudge.h - attached nowhere: the loader runs it (BPF_PROG_TEST_RUN, Linux 4.12) for connections of
 * TCP that were open when modes or policies have changed, and on which nobody may send for hours.
 * Each is judged as its next packet would be. What may go on is sent nothing, unless its entry is
 * about to run out.
 *
 * Nobody here knows the numbers that a reset needs. So the ends of a connection that may not go on
 * are sent a segment with numbers that no end waits for; TCP answers such a one with its own (RFC
 * 9293, 3.10.7.4). That answer is refused like any packet of the connection, and both ends are
 * reset. The segment comes in at the interface of the end that it is for, with a mark that nothing
 * out of a pod can bear, and is turned back into it.
 *
 * What may go on and is asked so answers likewise: to its other end that is a duplicate
 * acknowledgement, and each entry that it passes lives on. An end that has no such connection any
 * more answers with a reset, and the entry is closed.
 */
#pragma once
#include "lib/capture.h"
#include "lib/judge.h"
#include "lib/refuse.h"

/*
 * What it is run with: behind an Ethernet header a key of malla_flow; in `cb` the numbers, and
 * whether one that may go on is asked too.
 */
#define NUDGE_AT sizeof(struct ethhdr)

/* Whether the connection may not go on; `keeps`: or else is to be kept in the table. */
static __always_inline int nudge_is_due(const struct sight *sight, const struct packet *packet,
					int keeps)
{
	const struct malla_flow *flow = sight->flow;

	if (flow->state != MALLA_FLOW_OPEN && flow->state != MALLA_FLOW_CLOSING)
		return 0;
	/* What is half closed runs out. */
	keeps = keeps && flow->state == MALLA_FLOW_OPEN;
	/* Its endpoint is gone: from_pod resets what is sent there. */
	if (flow->kind == MALLA_FLOW_TRANSLATED)
		return keeps || flow->flags & MALLA_FLOW_CUT;
	if (judge_known(sight, packet) == MALLA_VERDICT_PASS)
		return keeps;
	/* The engine ends what it dials, and tells its client. */
	return flow->kind != MALLA_FLOW_DIALLED || flow->flags & MALLA_FLOW_BARE;
}

/* Where the packet's receiver is: a pod of this node, or the engine; 0: elsewhere. */
static __always_inline __u32 nudge_interface(const struct malla_flow *flow, int is_back)
{
	if (flow_is_engines(flow, is_back))
		return setting_engine();
	return flow->interfaces[flow_index(!is_back)];
}

/* 1: sent to the packet's receiver. For the verifier. */
__attribute__((noinline)) int nudge_send(struct __sk_buff *skb, const struct packet *packet,
					 __u32 interface)
{
	struct refuse_tcp tcp = {.flags = TCP_ACK};

	if (!packet || !interface)
		return 0;
	tcp.sequence_be = bpf_htonl(skb->cb[0]);
	tcp.acknowledged_be = tcp.sequence_be;
	if (refuse_write_tcp(skb, packet, &tcp, 1))
		return 0;
	skb->mark = MALLA_MARK_NUDGED;
	return !bpf_clone_redirect(skb, interface, BPF_F_INGRESS);
}

/* How many ends were nudged. */
static __always_inline int nudge(struct __sk_buff *skb)
{
	struct packet packet = {.network = NUDGE_AT, .flags = TCP_ACK};
	const struct malla_flow *flow;
	struct sight sight;
	__u32 opener;
	int sent;

	if (bpf_skb_load_bytes(skb, NUDGE_AT, &packet.flow, sizeof(packet.flow)) ||
	    packet.flow.protocol != IPPROTO_TCP)
		return 0;
	flow_see(&packet.flow, &sight);
	flow = sight.flow;
	if (!flow || !nudge_is_due(&sight, &packet, skb->cb[1] != 0))
		return 0;
	if (!sight.is_back) {
		sent = nudge_send(skb, &packet, nudge_interface(flow, 0));
		packet.flow = flow_reversed(&packet.flow);
	} else {
		struct packet forth = packet;

		forth.flow = flow_reversed(&packet.flow);
		sent = nudge_send(skb, &forth, nudge_interface(flow, 0));
	}
	opener = nudge_interface(flow, 1);
	/* Who opened it may know the other end as a service. */
	if (flow->kind != MALLA_FLOW_TRANSLATED && flow->other.port_be) {
		packet.flow.source = flow->other.address;
		packet.flow.source_port_be = flow->other.port_be;
	}
	return sent + nudge_send(skb, &packet, opener);
}

SEC("tc")
int malla_nudge(struct __sk_buff *skb)
{
	return nudge(skb);
}
