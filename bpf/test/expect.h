/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * expect.h - tests that run in the kernel: each SEC("tc") function of a *_test.bpf.c is one test.
 * It answers 0, or the line of the first expectation that failed. Tests/KernelTests loads each into
 * empty maps of its own.
 */
#pragma once
#include "malla.bpf.c"

#define EXPECT(condition)                                                                          \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return __LINE__;                                                           \
	} while (0)

#define POD_INTERFACE	7
#define OTHER_INTERFACE 8
/* There must be one with this index: the loopback. */
#define ENGINE_INTERFACE 1

static __always_inline struct malla_end end4(__u32 address, __u16 port)
{
	struct malla_end end = {.port_be = bpf_htons(port), .protocol = IPPROTO_TCP};

	address_from_ip4(&end.address, bpf_htonl(address));
	return end;
}

/* fd00:: and `last`. */
static __always_inline struct malla_end end6(__u32 last, __u16 port)
{
	struct malla_end end = {.port_be = bpf_htons(port), .protocol = IPPROTO_TCP};

	end.address.words_be[0] = bpf_htonl(0xfd000000);
	end.address.words_be[3] = bpf_htonl(last);
	return end;
}

#define POD	0x0a01000a /* 10.1.0.10 */
#define SERVICE 0x0a600001 /* 10.96.0.1 */
#define SERVER	0x0a01000b /* 10.1.0.11 */

/* A function of its own: the cores leave little of the stack. */
__attribute__((noinline)) int put_engine(__u32 engine, __u32 listeners)
{
	struct malla_setting values = {.node_cookie = 1, .engine = engine, .listeners = listeners};
	__u32 first = 0;

	return (int)bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
}

static __always_inline void put_setting(__u32 engine)
{
	put_engine(engine, 1);
}

/* One endpoint, SERVER:8080, behind SERVICE:80. */
static __always_inline void put_service(__u32 flags, __u32 endpoints)
{
	struct malla_end address = end4(SERVICE, 80);
	struct malla_end endpoint = end4(SERVER, 8080);
	struct malla_service service = {
	    .inside = {.id = 3, .endpoints = endpoints},
	    .flags = flags,
	};
	struct malla_endpoint_key slot = {.group = 3};

	bpf_map_update_elem(&malla_endpoint, &slot, &endpoint, BPF_ANY);
	bpf_map_update_elem(&malla_service, &address, &service, BPF_ANY);
}

static __always_inline void put_quota(__u32 endpoint, __u32 flows)
{
	struct malla_quota quota = {.flows = flows};

	bpf_map_update_elem(&malla_quota, &endpoint, &quota, BPF_ANY);
}

static __always_inline void put_pod(__u32 flags)
{
	struct malla_end pod = end4(POD, 0);
	struct malla_pod value = {.interface = POD_INTERFACE, .flags = flags, .endpoint = 1};

	bpf_map_update_elem(&malla_pod, &pod.address, &value, BPF_ANY);
	put_quota(0, 64);
	put_quota(1, 64);
}

/* A function of its own, as is the next: several would not fit the stack. */
__attribute__((noinline)) int put_server(__u32 flags)
{
	struct malla_end server = end4(SERVER, 0);
	struct malla_pod value = {.interface = OTHER_INTERFACE, .flags = flags, .endpoint = 2};

	put_quota(2, 64);
	return (int)bpf_map_update_elem(&malla_pod, &server.address, &value, BPF_ANY);
}

/* A pod of another node. */
__attribute__((noinline)) int put_far(__u32 address, __u32 flags)
{
	struct malla_end pod = end4(address, 0);

	flags |= MALLA_PEER_POD;
	return (int)bpf_map_update_elem(&malla_peer, &pod.address, &flags, BPF_ANY);
}

static __always_inline struct packet packet_between(struct malla_end source,
						    struct malla_end target, __u8 flags)
{
	struct packet packet = {.flags = flags, .segments = 1, .bytes = 40};

	packet.flow.source = source.address;
	packet.flow.source_port_be = source.port_be;
	packet.flow.target = target.address;
	packet.flow.target_port_be = target.port_be;
	packet.flow.protocol = IPPROTO_TCP;
	return packet;
}

/* The pod's set has policies, which allow nothing that no row allows. */
static __always_inline void put_set(__u32 number, __u8 flags)
{
	struct malla_set set = {
	    .verdicts = {MALLA_POLICY_DENY, MALLA_POLICY_DENY}, .flags = flags, .policies = 1};

	bpf_map_update_elem(&malla_set, &number, &set, BPF_ANY);
}

static __always_inline void put_selected(__u32 address, __u32 interface, __u32 identity, __u32 set)
{
	struct malla_end pod = end4(address, 0);
	struct malla_pod value = {
	    .interface = interface, .identity = identity, .set = set, .endpoint = identity & 7};

	bpf_map_update_elem(&malla_pod, &pod.address, &value, BPF_ANY);
	put_quota(identity & 7, 64);
}

/* `bits` as MALLA_POLICY_*_BITS; TCP, of set 1. */
static __always_inline void put_policy(__u32 identity, __u8 direction, __u16 port, __u32 bits,
				       __u8 verdict)
{
	struct malla_policy_key key = {
	    .prefix_bits = bits,
	    .set_be = bpf_htonl(1),
	    .identity_be = bpf_htonl(identity),
	    .direction = direction,
	    .protocol = bits > MALLA_POLICY_ANY_PROTOCOL_BITS ? IPPROTO_TCP : 0,
	    .port_be = bpf_htons(port),
	};
	struct malla_policy row = {.rule = 7, .verdict = verdict};

	bpf_map_update_elem(&malla_policy, &key, &row, BPF_ANY);
}

static __always_inline void put_identity(__u32 address, __u32 prefix_bits, __u32 identity)
{
	struct malla_end end = end4(address, 0);
	struct malla_prefix key = {.prefix_bits = 96 + prefix_bits, .address = end.address};
	struct malla_identity row = {.identity = identity};

	bpf_map_update_elem(&malla_ipcache, &key, &row, BPF_ANY);
}

/* Whoever was judged is judged anew. A function of its own, as above. */
__attribute__((noinline)) int put_generation(__u32 generation, __u32 flags)
{
	struct malla_setting values = {
	    .node_cookie = 1,
	    .engine = ENGINE_INTERFACE,
	    .listeners = 1,
	    .generation = generation,
	    .flags = flags,
	};
	__u32 first = 0;

	return (int)bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
}
