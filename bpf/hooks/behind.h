/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * behind.h - attached nowhere: the loader runs it (BPF_PROG_TEST_RUN, Linux 4.12) as if at an
 * interface, to be told the cookie of the network namespace in which the interface's other end is,
 * and its index there. rtnetlink only gives a number that means something to one namespace, and
 * hold.h sees cookies.
 *
 * It reads the kernel's own structures, relocated to the kernel that runs: struct net_device with
 * its private part at its end (Linux 6.12). Left out where hold.h is.
 */
#pragma once
#include <bpf/bpf_core_read.h>

#include "lib/kernel.h"

struct net {
	__u64 net_cookie;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct net_device_ops {
	void *ndo_get_peer_dev;
} __attribute__((preserve_access_index));

struct net_device {
	const struct net_device_ops *netdev_ops;
	possible_net_t nd_net;
	int ifindex;
	__u8 priv[0];
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *context) __ksym;

/* 0: the interface has no other end (it is neither veth nor netkit). */
static __always_inline struct net_device *behind(struct net_device *interface)
{
	struct net_device *other = 0;

	if (!BPF_CORE_READ(interface, netdev_ops, ndo_get_peer_dev))
		return 0;
	/* Both of them begin their private part with it. */
	bpf_probe_read_kernel(&other, sizeof(other), &interface->priv);
	return other;
}

/* The cookie is in the context's `cb`, its lesser half first, and then the index. */
SEC("tc")
int malla_behind(struct __sk_buff *skb)
{
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	struct net_device *other = behind(kernel->dev);
	__u64 cookie = other ? BPF_CORE_READ(other, nd_net.net, net_cookie) : 0;

	skb->cb[0] = (__u32)cookie;
	skb->cb[1] = (__u32)(cookie >> 32);
	skb->cb[2] = other ? (__u32)BPF_CORE_READ(other, ifindex) : 0;
	return TCX_NEXT;
}
