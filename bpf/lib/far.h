/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * far.h - connections between a pod of this node and a pod of another. They take the node's routes,
 * and not its stack: what the pod sends leaves by the route that the kernel names, and what an
 * uplink brings is judged there and put into the pod. Both directions do, or none does, or the
 * node's connection tracking would see halves.
 *
 * Decided at the SYN, where the node's routes lead to the other end by an uplink, and back out of
 * the interface that the connection came in by. All else goes up the stack: other protocols, what
 * the routes refuse, and TCP that may be fragmented, which only the stack does.
 */
#pragma once
#include "lib/clamp.h"
#include "lib/conntrack.h"
#include "lib/peer.h"
#include "lib/pod.h"
#include "lib/setting.h"
#include "lib/way.h"

/*
 * The interfaces that carry from_fabric. Written by BPFLoader once they do; read where a connection
 * opens: what leaves by any other has its answers met by the stack.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} malla_uplinks SEC(".maps");

/* IPv4 whose sender lets routers cut it into pieces. */
static __always_inline int far_may_be_cut(struct __sk_buff *skb, const struct packet *packet)
{
	__u16 offset_be = 0;

	return address_is_ip4(&packet->flow.source) &&
	       (bpf_skb_load_bytes(skb, packet->network + 6, &offset_be, sizeof(offset_be)) ||
		!(offset_be & bpf_htons(0x4000)));
}

/* Whether the packet may open a connection so: the far end is a pod elsewhere. */
static __always_inline int far_may(struct __sk_buff *skb, const struct packet *packet,
				   const struct malla_address *far)
{
	const struct malla_setting *values = setting();

	return values && values->flags & MALLA_SETTING_ROUTES && packet_opens(packet) &&
	       peer_is_pod(far) && !far_may_be_cut(skb, packet);
}

static __always_inline int far_is_routed(const struct malla_flow *flow)
{
	return flow->kind == MALLA_FLOW_OWN && flow->flags & MALLA_FLOW_ROUTED;
}

/*
 * Whether a packet of the pod's opens a connection to a pod elsewhere, and the node's routes lead
 * there by an uplink. For the verifier.
 */
__attribute__((noinline)) int far_leads(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup *route;
	__u32 interface;

	if (!packet || !far_may(skb, packet, &packet->flow.target) ||
	    way_route(skb, packet, &packet->flow, &route) || !route)
		return 0;
	interface = route->ifindex;
	return bpf_map_lookup_elem(&malla_uplinks, &interface) != 0;
}

/*
 * Asks the routes for a packet of the pod's, before `far_send`. 0: they take it; an MTU, bytes: it
 * is longer, and must not be cut; negative: it is the stack's. For the verifier.
 */
__attribute__((noinline)) int far_ask(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup *route;
	long answer;

	if (!packet)
		return -1;
	answer = way_route(skb, packet, &packet->flow, &route);
	if (!route)
		return -1;
	if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return far_may_be_cut(skb, packet) || packet->is_icmp ? -1 : route->mtu_result;
	return answer ? -1 : 0;
}

/* By the route that `far_ask` found for the packet: what the hook answers. */
static __always_inline int far_send(void)
{
	__u32 first = 0;

	return way_redirect(bpf_map_lookup_elem(&malla_route, &first));
}

/*
 * Whether what an uplink brings opens a connection of a pod elsewhere, and the answers leave by the
 * same uplink: where they do not, rp_filter has a say. The SYN then asks for no more than that
 * takes, because whoever answers may let routers cut it. For the verifier.
 */
__attribute__((noinline)) int far_returns(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_fib_lookup *route;
	struct malla_flow_key back;

	if (!packet || !far_may(skb, packet, &packet->flow.source))
		return 0;
	back = flow_reversed(&packet->flow);
	if (way_route(skb, packet, &back, &route) || !route || route->ifindex != skb->ifindex)
		return 0;
	clamp(skb, packet, route->mtu_result);
	return 1;
}
