/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * inbound.h - connections that somebody opens towards a pod of this node, and that the engine is to
 * have: all of a pod that needs it, and the port at which nodes meet for each other's pods. They
 * are met where they come from: a pod's interface, an uplink, or on their way out of the stack.
 *
 * Plain ones are judged by their real source and the pod's own port, here and again when the engine
 * dials the pod. What a tunnel carries is judged when the engine dials; nobody has to allow its
 * port.
 */
#pragma once
#include "lib/capture.h"
#include "lib/exclude.h"
#include "lib/judge.h"
#include "lib/stream.h"

static __always_inline int inbound_is_hbone(const struct packet *packet,
					    const struct malla_pod *pod)
{
	const struct malla_setting *values = setting();

	return packet->flow.target_port_be == bpf_htons(MALLA_HBONE_PORT) &&
	       (pod->flags & MALLA_POD_MESHED) && values && (values->flags & MALLA_SETTING_HBONE);
}

/* Where a connection that opens towards a pod belongs. */
enum inbound {
	INBOUND_NOT,	 /* not with the engine */
	INBOUND_PLAIN,	 /* with the engine, if policies allow it */
	INBOUND_TUNNEL,	 /* with the engine, which asks about what is inside */
	INBOUND_REFUSED, /* with the engine, and there is none */
};

/* enum inbound of a packet without a flow. A function of its own for the verifier. */
__attribute__((noinline)) int inbound(struct __sk_buff *skb, const struct packet *packet)
{
	const struct malla_pod *pod;
	int is_hbone;

	if (!packet || !packet_opens(packet))
		return INBOUND_NOT;
	pod = pod_find(&packet->flow.target);
	if (!pod)
		return INBOUND_NOT;
	is_hbone = inbound_is_hbone(packet, pod);
	if (!is_hbone &&
	    (!(pod->flags & MALLA_POD_INBOUND) || exclude_holds_inbound(pod, &packet->flow)))
		return INBOUND_NOT;
	if (capture_is_served(skb))
		return is_hbone ? INBOUND_TUNNEL : INBOUND_PLAIN;
	return is_hbone || pod->flags & MALLA_POD_FAILS_CLOSED ? INBOUND_REFUSED : INBOUND_NOT;
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
	return flow_open(sight, packet, flow, 0) ? MALLA_VERDICT_CAPTURED
						 : MALLA_VERDICT_FLOW_REFUSED;
}

/*
 * Judges and enters a flow between two ends: CAPTURED where it is the engine's. `dialled`: the
 * service that the client knows instead of the pod; null: none. Where the packet opens nothing,
 * `enum stream` says in which direction the flow was opened.
 */
static __always_inline enum malla_verdict
inbound_open(struct sight *sight, const struct packet *packet, enum inbound place,
	     const struct malla_end *dialled, enum stream stream)
{
	enum malla_flow_kind kind = dialled ? MALLA_FLOW_TRANSLATED_BACK : MALLA_FLOW_OWN;
	enum malla_verdict verdict;

	if (stream == STREAM_UNASKED)
		return MALLA_VERDICT_UNASKED;
	if (place == INBOUND_REFUSED)
		return MALLA_VERDICT_ENGINE_REFUSED;
	if (place == INBOUND_TUNNEL)
		return inbound_tunnel(sight, packet);
	if (place == INBOUND_PLAIN)
		kind = MALLA_FLOW_CAPTURED;
	verdict = judge_open(sight, packet, kind, dialled, stream == STREAM_BACK);
	return place == INBOUND_PLAIN && judge_allows(verdict) ? MALLA_VERDICT_CAPTURED : verdict;
}
