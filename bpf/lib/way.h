/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * way.h - where a packet goes once its tuple is written: into a local pod, to this node itself, or
 * on by the node's routes, without the node's netfilter.
 */
#pragma once
#include "lib/packet.h"
#include "lib/pod.h"
#include "lib/service.h"

enum way_kind {
	WAY_NONE,
	WAY_TOO_LONG, /* `mtu` says how long it may be */
	WAY_STACK,    /* for this node itself */
	WAY_POD,      /* out at `interface`, to the pod itself */
	WAY_ROUTE,    /* out at `interface`, to `next` */
};

struct way {
	struct bpf_redir_neigh next;
	__u32 interface;
	__u32 mtu;
};

/* The length that the MTU is tested against: of one segment, where the packet is many. */
static __always_inline __u16 way_length(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 headers = packet->transport - packet->network;
	__u8 offset = 0;

	if (!skb->gso_size)
		return (__u16)(skb->len - packet->network);
	if (packet->flow.protocol == IPPROTO_UDP)
		return (__u16)(headers + 8 + skb->gso_size);
	bpf_skb_load_bytes(skb, packet->transport + 12, &offset, sizeof(offset));
	return (__u16)(headers + (__u32)(offset >> 4) * 4 + skb->gso_size);
}

/* The question to the routes, for which the stack has no room. Used by one program at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_fib_lookup);
} malla_route SEC(".maps");

/*
 * Asks the node's routes about the packet, once it bears `becomes`, its rules by source and port
 * too; its netfilter is not asked. What bpf_fib_lookup answers.
 * Null in `*found`: not asked.
 */
static __always_inline long way_route(struct __sk_buff *skb, const struct packet *packet,
				      const struct malla_flow_key *becomes,
				      struct bpf_fib_lookup **found)
{
	__u32 first = 0;
	struct bpf_fib_lookup *route = bpf_map_lookup_elem(&malla_route, &first);

	*found = route;
	if (!route)
		return BPF_FIB_LKUP_RET_NOT_FWDED;
	__builtin_memset(route, 0, sizeof(*route));
	route->l4_protocol = becomes->protocol;
	route->sport = becomes->source_port_be;
	route->dport = becomes->target_port_be;
	route->ifindex = skb->ifindex;
	route->tot_len = way_length(skb, packet);
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		route->family = AF_INET;
		route->ipv4_src = becomes->source.words_be[3];
		route->ipv4_dst = becomes->target.words_be[3];
	} else {
		route->family = AF_INET6;
		__builtin_memcpy(route->ipv6_src, &becomes->source, sizeof(becomes->source));
		__builtin_memcpy(route->ipv6_dst, &becomes->target, sizeof(becomes->target));
	}
	return bpf_fib_lookup(skb, route, sizeof(*route), FIB_SKIP_NEIGH);
}

/* What IPv4's header has from its ninth byte on. */
struct way_hops {
	__u8 hops;
	__u8 protocol;
	__u16 checksum;
};

/*
 * Counts down the hops of a packet that goes on to another node, so that a loop ends (RFC 1812,
 * 5.3.1). 0: done; else it may go no further, and nothing is written. For the verifier.
 */
__attribute__((noinline)) int way_age(struct __sk_buff *skb, const struct packet *packet)
{
	struct way_hops ip4;
	__u32 sum;
	__u8 hops;

	if (!packet)
		return -1;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, packet->network + 8, &ip4, sizeof(ip4)) ||
		    ip4.hops <= 1)
			return -1;
		ip4.hops--;
		/* RFC 1624; the same as the kernel's ip_decrease_ttl. */
		sum = (__u32)ip4.checksum + bpf_htons(0x0100);
		ip4.checksum = (__u16)(sum + (sum >= 0xffff));
		return bpf_skb_store_bytes(skb, packet->network + 8, &ip4, sizeof(ip4), 0) != 0;
	}
	if (bpf_skb_load_bytes(skb, packet->network + 7, &hops, sizeof(hops)) || hops <= 1)
		return -1;
	hops--;
	return bpf_skb_store_bytes(skb, packet->network + 7, &hops, sizeof(hops),
				   BPF_F_RECOMPUTE_CSUM) != 0;
}

/* By the route that was found; the neighbour that it names is resolved. Linux 5.10. */
static __always_inline int way_redirect(const struct bpf_fib_lookup *route)
{
	struct bpf_redir_neigh next = {};

	if (!route)
		return TCX_DROP;
	next.nh_family = route->family;
	__builtin_memcpy(next.ipv6_nh, route->ipv6_dst, sizeof(next.ipv6_nh));
	return (int)bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

static __always_inline int way_ask(struct __sk_buff *skb, const struct packet *packet,
				   const struct malla_flow_key *becomes, struct way *way)
{
	struct bpf_fib_lookup *route;
	long answer = way_route(skb, packet, becomes, &route);

	if (!route)
		return WAY_NONE;
	if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		way->mtu = route->mtu_result;
		return WAY_TOO_LONG;
	}
	if (answer)
		return WAY_NONE;
	way->interface = route->ifindex;
	way->next.nh_family = route->family;
	__builtin_memcpy(way->next.ipv6_nh, route->ipv6_dst, sizeof(way->next.ipv6_nh));
	return WAY_ROUTE;
}

/* enum way_kind of the packet, once it bears `becomes`. */
static __always_inline int way_find(struct __sk_buff *skb, const struct packet *packet,
				    const struct malla_flow_key *becomes, struct way *way)
{
	const struct malla_pod *pod = pod_find(&becomes->target);
	const __u32 *near;

	__builtin_memset(way, 0, sizeof(*way));
	if (pod) {
		way->interface = pod->interface;
		if (skb->protocol == bpf_htons(ETH_P_IP)) {
			way->next.nh_family = AF_INET;
			way->next.ipv4_nh = becomes->target.words_be[3];
		} else {
			way->next.nh_family = AF_INET6;
			__builtin_memcpy(way->next.ipv6_nh, &becomes->target,
					 sizeof(way->next.ipv6_nh));
		}
		return WAY_POD;
	}
	near = bpf_map_lookup_elem(&malla_near, &becomes->target);
	if (near && *near == MALLA_NEAR_OWN)
		return WAY_STACK;
	return way_ask(skb, packet, becomes, way);
}

/* Sends it out. A device without a link-layer header gets room for one, which is not read. */
static __always_inline int way_take(struct __sk_buff *skb, const struct packet *packet,
				    struct way *way)
{
	if (packet->network < sizeof(struct ethhdr) &&
	    bpf_skb_change_head(skb, sizeof(struct ethhdr), 0))
		return TCX_DROP;
	return (int)bpf_redirect_neigh(way->interface, &way->next, sizeof(way->next), 0);
}
