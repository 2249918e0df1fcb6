/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * far.h - connections between a pod of this node and a pod of another. They take the node's routes,
 * and not its stack: what the pod sends leaves by the route that the kernel names, and what an
 * uplink brings is judged there and put into the pod. Both directions do, or none does, or the
 * node's connection tracking would see halves.
 *
 * Decided at the SYN, where the node's routes lead to the other end, and back out of the interface
 * that the connection came in by. All else goes up the stack: other protocols, what the routes
 * refuse, and what is too long, of which the stack tells the sender.
 */
#pragma once
#include "lib/conntrack.h"
#include "lib/peer.h"
#include "lib/pod.h"
#include "lib/setting.h"
#include "lib/way.h"

/* Whether a connection may be opened so: its far end is a pod elsewhere. */
static __always_inline int far_may(const struct malla_address *far)
{
	const struct malla_setting *values = setting();

	return values && values->flags & MALLA_SETTING_ROUTES && peer_is_pod(far);
}

static __always_inline int far_is_routed(const struct malla_flow *flow)
{
	return flow->kind == MALLA_FLOW_OWN && flow->flags & MALLA_FLOW_ROUTED;
}

/*
 * Whether a packet of the pod's opens a connection to a pod elsewhere, and the node's routes lead
 * there. For the verifier.
 */
__attribute__((noinline)) int far_leads(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup *route;

	return packet && packet_opens(packet) && far_may(&packet->flow.target) &&
	       !way_route(skb, packet, &packet->flow, &route);
}

/*
 * Sends a packet of the pod's by the node's routes: what the hook answers, or TCX_NEXT where they
 * refuse it. Fails into the stack. For the verifier.
 */
__attribute__((noinline)) int far_send(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup *route;

	if (!packet || way_route(skb, packet, &packet->flow, &route))
		return TCX_NEXT;
	return way_redirect(route);
}

/*
 * Whether what an uplink brings opens a connection of a pod elsewhere, and the answers leave by the
 * same uplink: where they do not, rp_filter has a say. For the verifier.
 */
__attribute__((noinline)) int far_returns(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup *route;
	struct malla_flow_key back;

	if (!packet || !packet_opens(packet) || !far_may(&packet->flow.source))
		return 0;
	back = flow_reversed(&packet->flow);
	return !way_route(skb, packet, &back, &route) && route && route->ifindex == skb->ifindex;
}
