/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hold.h - cgroup_skb at the pods' cgroup: packets of sockets in a network namespace behind no
 * interface that has its pod's programs and rows. A pod that starts is silent until they are there,
 * so that it is never open before its policies are. An address proves nothing: it may be that of a
 * pod that was here before, and the next one's namespace is another. Attached after the first
 * configuration is in the maps. Which addresses are a pod's is told by malla_held: all below the
 * cgroup, or those of the node's blocks, so that containers which are no pods are left alone.
 *
 * In a namespace that is known, the same for packets by a device that is not: an interface that was
 * made anew in the pod's own namespace has neither programs nor guards until the agent sees it. The
 * pod may have others beside it (a bridge of its own, a second interface): they wait for one look
 * of the agent, which finds the pod's interface in its place.
 *
 * Never held: the node's own sockets, the engine's, loopback, what a link needs by itself, pods
 * that name no interface, and TCP that is open already: without a SYN none opens. Linux 6.15
 * (bpf_get_netns_cookie for this program type); left out where it is older.
 */
#pragma once
#include "lib/count.h"
#include "lib/service.h"
#include "lib/setting.h"
#include "lib/space.h"
#include "lib/tell.h"

#define HOLD_PASS 1
#define HOLD_DROP 0

/*
 * Local pods that name no interface, or one without another end: nothing is attached for them, and
 * no namespace is known. Written by BPFLoader; read when the namespace is none of malla_space.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_address);
	__type(value, __u32);
} malla_known SEC(".maps");

/* Blocks of addresses whose pods are held. Written by BPFLoader; read as malla_known is. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_prefix);
	__type(value, __u32);
} malla_held SEC(".maps");

static __always_inline int hold_is_of_link(const struct malla_address *address)
{
	__u32 first = bpf_ntohl(address->words_be[3]) >> 24;

	if (address_is_unspecified(address) || address_is_loopback(address))
		return 1;
	if (address_is_ip4(address))
		return first >= 224; /* multicast and broadcast */
	return address_is_link_local(address) || bpf_ntohl(address->words_be[0]) >> 24 == 0xff;
}

/* The namespace is the node's, the engine's, or a pod's that is ready, by this device. */
static __always_inline int hold_is_open(__u64 namespace_cookie, __u32 device)
{
	const struct malla_setting *values = setting();

	return !values || namespace_cookie == values->node_cookie ||
	       namespace_cookie == values->engine_cookie || space_has(namespace_cookie, device);
}

/* Of a socket in any other namespace, or by any other device; `address` is its own. */
static __always_inline enum malla_verdict hold_judge(const struct malla_address *address)
{
	struct malla_prefix block = {.prefix_bits = 128, .address = *address};

	if (hold_is_of_link(address) || bpf_map_lookup_elem(&malla_known, address) ||
	    !bpf_map_lookup_elem(&malla_held, &block))
		return MALLA_VERDICT_PASS;
	return MALLA_VERDICT_NOT_READY;
}

/* Of what is not ready: whether the agent has been asked about the device, if that is why. */
static __always_inline enum malla_verdict hold_ask(__u64 namespace_cookie, __u32 device)
{
	if (!space_interface(namespace_cookie) || space_ask(namespace_cookie, device))
		return MALLA_VERDICT_NOT_READY;
	return MALLA_VERDICT_DEVICES_FULL;
}

static __always_inline void hold_tell(struct __sk_buff *skb, enum malla_hook hook,
				      enum malla_verdict verdict)
{
	struct packet packet = {.hook = (__u8)hook};

	if (packet_read(skb, 0, &packet) == MALLA_VERDICT_PASS)
		tell_refused(&packet, verdict);
}

/* Most packets, in a few instructions: of a TCP connection, and not its first. */
static __always_inline int hold_is_mid_stream(struct __sk_buff *skb)
{
	const struct iphdr *ip4 = (const void *)(long)skb->data;
	const struct ipv6hdr *ip6 = (const void *)ip4;
	const void *end = (const void *)(long)skb->data_end;
	const struct packet_tcp *tcp;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		tcp = (const void *)(ip4 + 1);
		return (const void *)(tcp + 1) <= end && *(const __u8 *)ip4 == 0x45 &&
		       ip4->protocol == IPPROTO_TCP && !(ip4->frag_off & bpf_htons(0x3fff)) &&
		       !(tcp->flags & TCP_SYN);
	}
	tcp = (const void *)(ip6 + 1);
	return skb->protocol == bpf_htons(ETH_P_IPV6) && (const void *)(tcp + 1) <= end &&
	       ip6->nexthdr == IPPROTO_TCP && !(tcp->flags & TCP_SYN);
}

/* `at4` and `at6`: where the IP headers have the socket's own address. */
static __always_inline int hold_meet(struct __sk_buff *skb, enum malla_hook hook, __u32 at4,
				     __u32 at6)
{
	struct malla_address address;
	enum malla_verdict verdict;
	__u64 namespace_cookie;

	if (hold_is_mid_stream(skb))
		return HOLD_PASS;
	namespace_cookie = bpf_get_netns_cookie(skb);
	if (hold_is_open(namespace_cookie, skb->ifindex))
		return HOLD_PASS;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u32 ip4;

		if (bpf_skb_load_bytes(skb, at4, &ip4, sizeof(ip4)))
			return HOLD_PASS;
		address_from_ip4(&address, ip4);
	} else if (skb->protocol != bpf_htons(ETH_P_IPV6) ||
		   bpf_skb_load_bytes(skb, at6, &address, sizeof(address))) {
		return HOLD_PASS;
	}
	if (hold_judge(&address) == MALLA_VERDICT_PASS)
		return HOLD_PASS;
	verdict = hold_ask(namespace_cookie, skb->ifindex);
	count_verdict(hook, verdict);
	hold_tell(skb, hook, verdict);
	return HOLD_DROP;
}

SEC("cgroup_skb/egress")
int malla_hold_out(struct __sk_buff *skb)
{
	return hold_meet(skb, MALLA_HOOK_FROM_SOCKET, 12, 8);
}

SEC("cgroup_skb/ingress")
int malla_hold_in(struct __sk_buff *skb)
{
	return hold_meet(skb, MALLA_HOOK_TO_SOCKET, 16, 24);
}
