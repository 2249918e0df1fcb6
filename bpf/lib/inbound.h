/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * inbound.h - connections that somebody opens towards a pod of this node, and
 * that the engine is to have: all of a pod that needs it, and the port at which
 * nodes meet for each other's pods. They are met where they come from: a pod's
 * interface, an uplink, or on their way out of the stack. And those that a pod
 * opens to a pod elsewhere, to which tunnels lead.
 *
 * What goes to a pod elsewhere in plain text is refused here where that pod insists on mutual TLS
 * and has no agent that would.
 *
 * Plain ones are judged by their real source and the pod's own port, here and
 * again when the engine dials the pod. What a tunnel carries is judged when the
 * engine dials; nobody has to allow its port. Where a pod insists on mutual
 * TLS, plain text is refused but from those for whom this node vouches: its own
 * pods in the mesh, whose packets bear no address but their own, and itself.
 */
#pragma once
#include "lib/capture.h"
#include "lib/exclude.h"
#include "lib/judge.h"
#include "lib/peer.h"
#include "lib/stream.h"

/* Whether a pod's port is the one at which the engine takes its tunnels. */
static __always_inline int inbound_is_hbone(const struct malla_pod *pod, __u16 port_be)
{
	const struct malla_setting *values = setting();

	return port_be == bpf_htons(MALLA_HBONE_PORT) && (pod->flags & MALLA_POD_MESHED) &&
	       values && (values->flags & MALLA_SETTING_HBONE);
}

/* Where a connection that opens towards a pod belongs; beneath these: the verdict that refuses it.
 */
enum inbound {
	INBOUND_NOT = MALLA_VERDICTS_MAX, /* not with the engine */
	INBOUND_TUNNEL,			  /* with the engine, which asks about what is inside */
	INBOUND_PLAIN,			  /* with the engine, if policies allow it */
	INBOUND_CARRIED,		  /* the same: a tunnel leads there */
};

/*
 * Whether this node knows who opens it. What no interface has brought was sent
 * by a process of the node (a probe); what the node's stack forwards between
 * its pods still says where it came from.
 */
static __always_inline int inbound_is_vouched(struct __sk_buff *skb, const struct packet *packet)
{
	const struct malla_pod *source;

	if (packet->hook == MALLA_HOOK_UPLINK)
		return 0;
	if (packet->hook == MALLA_HOOK_TO_POD && !skb->ingress_ifindex)
		return 1;
	source = pod_find(&packet->flow.source);
	if (!source || !(source->flags & MALLA_POD_MESHED))
		return 0;
	return packet->hook == MALLA_HOOK_FROM_POD || skb->ingress_ifindex == source->interface;
}

/*
 * A pod of this node opens a connection to one elsewhere, and both have an identity. At the port of
 * tunnels too: the engine's own tunnels do not come out of a pod, and what a pod writes there may
 * be plain text.
 */
static __always_inline int inbound_is_carried(const struct packet *packet)
{
	const struct malla_setting *values = setting();
	struct malla_end target = flow_target(&packet->flow);
	const struct malla_pod *pod;

	if (!values || !(values->flags & MALLA_SETTING_HBONE) ||
	    packet->hook != MALLA_HOOK_FROM_POD)
		return 0;
	pod = pod_find(&packet->flow.source);
	return pod && pod->flags & MALLA_POD_TUNNELS && peer_speaks_hbone(&target.address) &&
	       !exclude_holds(pod, &target);
}

/* What policies deny is theirs to name; only what they allow is refused for being plain. */
static __always_inline int inbound_bare(const struct packet *packet, int is_back)
{
	struct blank *row = blank();

	if (!row)
		return INBOUND_NOT;
	row->judgement.is_vouched = 0;
	if (!judge_allows(judge_tuple(&row->judgement, packet, is_back)))
		return INBOUND_NOT;
	judge_refuse(&row->judgement);
	return MALLA_VERDICT_PLAIN_REFUSED;
}

/*
 * A pod of this node, or the engine for it, opens a connection to one elsewhere that goes in plain
 * text, or goes on with it.
 */
static __always_inline int inbound_far(struct packet *packet)
{
	__u32 flags = peer_flags(&packet->flow.target);

	if (!flags || flags & MALLA_PEER_HBONE || packet->flow.protocol != IPPROTO_TCP)
		return INBOUND_NOT;
	if (mode_is_strict_far(flags, packet->flow.target_port_be))
		return inbound_bare(packet, 0);
	packet->marks |= MALLA_FLOW_PLAIN;
	return INBOUND_NOT;
}

/* Somebody opens a connection to a pod of this node that is no tunnel. */
static __always_inline int inbound_plain(struct __sk_buff *skb, struct packet *packet,
					 const struct malla_pod *pod)
{
	if (!inbound_is_vouched(skb, packet)) {
		if (mode_is_strict(pod, packet->flow.target_port_be))
			return inbound_bare(packet, 0);
		packet->marks |= MALLA_FLOW_PLAIN;
	}
	if (!(pod->flags & MALLA_POD_INBOUND) || exclude_holds_inbound(pod, &packet->flow))
		return INBOUND_NOT;
	if (capture_is_served(skb))
		return INBOUND_PLAIN;
	return pod->flags & MALLA_POD_FAILS_CLOSED ? MALLA_VERDICT_ENGINE_REFUSED : INBOUND_NOT;
}

/* enum inbound of a packet without a flow, and its marks. A function of its own for the verifier.
 */
__attribute__((noinline)) int inbound(struct __sk_buff *skb, struct packet *packet)
{
	const struct malla_pod *pod;

	if (!packet || !packet_opens(packet))
		return INBOUND_NOT;
	pod = pod_find(&packet->flow.target);
	if (!pod) {
		if (!inbound_is_carried(packet))
			return packet->hook == MALLA_HOOK_FROM_POD ? inbound_far(packet)
								   : INBOUND_NOT;
		packet->marks |= MALLA_FLOW_CARRIED;
		/* Never in plain text instead. */
		return capture_is_served(skb) ? INBOUND_CARRIED : MALLA_VERDICT_ENGINE_REFUSED;
	}
	if (!inbound_is_hbone(pod, packet->flow.target_port_be))
		return inbound_plain(skb, packet, pod);
	return capture_is_served(skb) ? INBOUND_TUNNEL : MALLA_VERDICT_ENGINE_REFUSED;
}

/*
 * Of a packet in no flow: whether it belongs to a connection that the engine has, of which the
 * entry made room or was taken away. It is never sent past the engine, whose next packet puts the
 * entry back. A function of its own for the verifier.
 */
__attribute__((noinline)) int inbound_strays(struct __sk_buff *skb, const struct packet *packet)
{
	const struct malla_setting *values = setting();

	if (!packet || !values || !values->engine || !values->engine_netns)
		return 0;
	if (packet->is_icmp || packet->flow.protocol != IPPROTO_TCP || packet->flags & TCP_SYN)
		return 0;
	return stream_is_open(skb, &packet->flow, values->engine_netns - 1, 0);
}

/*
 * A pod's answer goes to whom this node vouches for: one of its own pods in the mesh, or itself,
 * by whichever of its addresses.
 */
static __always_inline int inbound_answers_known(const struct packet *packet)
{
	const struct malla_pod *client = pod_find(&packet->flow.target);

	return client ? !!(client->flags & MALLA_POD_MESHED)
		      : judge_is_host(ipcache_identity(&packet->flow.target));
}

/*
 * The rest of a connection between two ends of which there is no entry, in the direction `stream`:
 * what was opened in plain text still is, and the pod that was dialled may insist on mutual TLS
 * since. Like `inbound`. Of a list only the port that was dialled counts, which `stream` has asked
 * the sockets for; where it can only guess (a server behind an ephemeral port that listens no more)
 * the rest is refused rather than let through. For the verifier.
 */
__attribute__((noinline)) int inbound_rests(struct __sk_buff *skb, struct packet *packet, int way)
{
	const struct malla_address *dialled;
	const struct malla_pod *pod;
	__u16 port_be;

	if (!packet || packet->is_icmp || packet->flow.protocol != IPPROTO_TCP)
		return INBOUND_NOT;
	dialled = way == STREAM_BACK ? &packet->flow.source : &packet->flow.target;
	port_be = way == STREAM_BACK ? packet->flow.source_port_be : packet->flow.target_port_be;
	pod = pod_find(dialled);
	if (!pod && way != STREAM_BACK && packet->hook == MALLA_HOOK_FROM_POD) {
		/* Only of a pod whose sockets can be asked it is known that it does not answer. */
		pod = pod_find(&packet->flow.source);
		return pod && pod->netns ? inbound_far(packet) : INBOUND_NOT;
	}
	if (!pod || !pod->netns)
		return INBOUND_NOT;
	if (way == STREAM_BACK ? inbound_answers_known(packet) : inbound_is_vouched(skb, packet))
		return INBOUND_NOT;
	if (mode_is_strict(pod, port_be))
		return inbound_bare(packet, way == STREAM_BACK);
	packet->marks |= MALLA_FLOW_PLAIN;
	return INBOUND_NOT;
}

/* Where a packet without a flow belongs: `inbound`'s answer. */
static __always_inline int inbound_place(struct __sk_buff *skb, struct packet *packet,
					 enum stream way)
{
	return packet_opens(packet) ? inbound(skb, packet) : inbound_rests(skb, packet, way);
}

static __always_inline enum malla_verdict inbound_tunnel(struct sight *sight,
							 const struct packet *packet)
{
	struct malla_flow *flow = flow_blank(MALLA_FLOW_CAPTURED);
	const struct malla_pod *pod = pod_find(&packet->flow.target);

	if (!flow || !pod)
		return MALLA_VERDICT_FAILED;
	flow->interfaces[0] = pod_interface(&packet->flow.source);
	flow->owner = pod->endpoint;
	flow->flags = MALLA_FLOW_TUNNEL;
	return flow_open(sight, packet, flow, 0) ? MALLA_VERDICT_CAPTURED
						 : MALLA_VERDICT_FLOW_REFUSED;
}

/*
 * Judges and enters a flow between two ends: CAPTURED where it is the engine's. `place` is
 * inbound's. `dialled`: the service that the client knows instead of the pod; null: none. Where the
 * packet opens nothing, `stream` says in which direction the flow was opened.
 */
static __always_inline enum malla_verdict inbound_open(struct sight *sight,
						       const struct packet *packet, int place,
						       const struct malla_end *dialled,
						       enum stream stream)
{
	enum malla_flow_kind kind = dialled ? MALLA_FLOW_TRANSLATED_BACK : MALLA_FLOW_OWN;
	enum malla_verdict verdict;

	if (stream == STREAM_UNASKED)
		return MALLA_VERDICT_UNASKED;
	if (place < INBOUND_NOT)
		return (enum malla_verdict)place;
	if (place == INBOUND_TUNNEL)
		return inbound_tunnel(sight, packet);
	if (place > INBOUND_TUNNEL)
		kind = MALLA_FLOW_CAPTURED;
	verdict = judge_open(sight, packet, kind, dialled, stream == STREAM_BACK);
	return place > INBOUND_TUNNEL && judge_allows(verdict) ? MALLA_VERDICT_CAPTURED : verdict;
}
