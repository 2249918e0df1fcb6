/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * stream.h - packets without an entry that do not open a flow: in which direction that flow was
 * opened, if there is one. What a sender writes into ports and flags proves nothing; so a local
 * pod's own socket is asked, that of the receiver first: it must be established between exactly
 * these two ends. Who of them listens at its port has not dialled.
 *
 * What nobody confirms is judged as if its sender opened a flow; what can only be an answer is
 * dropped.
 */
#pragma once
#include "lib/conntrack.h"
#include "lib/pod.h"

enum stream {
	STREAM_FORTH,	/* the sender has opened it, or opens it now */
	STREAM_BACK,	/* it answers */
	STREAM_UNASKED, /* it pretends to answer */
};

/* Source: include/net/tcp_states.h. */
#define TCP_STATE_ESTABLISHED 1
#define TCP_STATE_SYN_SENT    2
#define TCP_STATE_SYN_RECV    3
#define TCP_STATE_TIME_WAIT   6
#define TCP_STATE_CLOSE	      7
#define TCP_STATE_LISTEN      10
#define TCP_STATE_NEW	      12

/* What is read of the kernel's own record: the interface by which the last packet came. */
struct sock {
	int sk_rx_dst_ifindex;
} __attribute__((preserve_access_index));

/* The socket that would receive such a packet in the pod's namespace; null: none. To be released.
 */
static __always_inline struct bpf_sock *
stream_socket(struct __sk_buff *skb, const struct malla_flow_key *flow, __u32 netns)
{
	struct bpf_sock_tuple tuple = {};

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		tuple.ipv4.saddr = flow->source.words_be[3];
		tuple.ipv4.daddr = flow->target.words_be[3];
		tuple.ipv4.sport = flow->source_port_be;
		tuple.ipv4.dport = flow->target_port_be;
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), netns, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, &flow->source, sizeof(flow->source));
	__builtin_memcpy(tuple.ipv6.daddr, &flow->target, sizeof(flow->target));
	tuple.ipv6.sport = flow->source_port_be;
	tuple.ipv6.dport = flow->target_port_be;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), netns, 0);
}

/*
 * Whether the socket that such a packet is for is established. `is_sender`: it is the sender's own,
 * who may have shaken hands with himself: over `lo`, since a pod has no other interface to forge
 * packets on. For the verifier.
 */
__attribute__((noinline)) int
stream_is_open(struct __sk_buff *skb, const struct malla_flow_key *flow, __u32 netns, int is_sender)
{
	struct bpf_sock *socket;
	const struct sock *full;
	__u32 state;
	int is_open;

	if (!flow)
		return 0;
	socket = stream_socket(skb, flow, netns);
	if (!socket)
		return 0;
	state = socket->state;
	is_open = state != TCP_STATE_SYN_SENT && state != TCP_STATE_SYN_RECV &&
		  state != TCP_STATE_CLOSE && state != TCP_STATE_LISTEN && state != TCP_STATE_NEW;
	if (is_open && is_sender) {
		full = (const struct sock *)bpf_skc_to_tcp_sock(socket);
		is_open = full && full->sk_rx_dst_ifindex != LOOPBACK;
	}
	bpf_sk_release(socket);
	return is_open;
}

/*
 * Whether the end that a packet is for has been dialled, where the connection is established. Makes
 * of `flow` one that no connection has, so that only a listener can be meant. For the verifier.
 */
__attribute__((noinline)) int stream_was_dialled(struct __sk_buff *skb, struct malla_flow_key *flow,
						 __u32 netns)
{
	struct bpf_sock *socket;
	int is_served;

	if (!flow)
		return 0;
	/* A server that drains listens no more. */
	is_served = bpf_ntohs(flow->target_port_be) < DIALLING_PORT_MIN &&
		    bpf_ntohs(flow->source_port_be) >= DIALLING_PORT_MIN;
	flow->source_port_be = 0;
	socket = stream_socket(skb, flow, netns);
	if (!socket)
		return is_served;
	if (socket->state == TCP_STATE_LISTEN)
		is_served = 1;
	bpf_sk_release(socket);
	return is_served;
}

/* enum stream of a packet of TCP that opens nothing. */
static __always_inline enum stream stream_of_tcp(struct __sk_buff *skb, const struct packet *packet)
{
	const struct malla_pod *pod = pod_find(&packet->flow.target);
	int is_sender = !pod;
	struct blank *row = blank();
	struct malla_flow_key *flow;

	if (is_sender)
		pod = pod_find(&packet->flow.source);
	if (!pod || !pod->netns || !row)
		return STREAM_FORTH;
	/* The stack has no room for it. */
	flow = &row->judgement.tuple;
	if (is_sender)
		*flow = flow_reversed(&packet->flow);
	else
		*flow = packet->flow;
	if (!stream_is_open(skb, flow, pod->netns - 1, is_sender))
		return STREAM_FORTH;
	return stream_was_dialled(skb, flow, pod->netns - 1) == is_sender ? STREAM_BACK
									  : STREAM_FORTH;
}

/*
 * An answer in no flow. While another version's programs are attached beside these, they may know
 * the flow, and judge it.
 */
static __always_inline enum stream stream_unasked(void)
{
	const struct malla_setting *values = setting();

	return values && values->flags & MALLA_SETTING_JOINS ? STREAM_BACK : STREAM_UNASKED;
}

/* enum stream. A function of its own for the verifier. */
__attribute__((noinline)) int stream(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return STREAM_UNASKED;
	if (packet->flow.protocol != IPPROTO_TCP)
		return packet->is_answer ? stream_unasked() : STREAM_FORTH;
	if (packet_opens(packet))
		return STREAM_FORTH;
	if (packet->flags & TCP_SYN)
		return stream_unasked();
	return stream_of_tcp(skb, packet);
}
