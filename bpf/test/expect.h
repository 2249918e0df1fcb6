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

#define POD_INTERFACE	 7
#define OTHER_INTERFACE	 8
#define ENGINE_INTERFACE 5

static __always_inline struct malla_end end4(__u32 address, __u16 port)
{
	struct malla_end end = {.port_be = bpf_htons(port), .protocol = IPPROTO_TCP};

	address_from_ip4(&end.address, bpf_htonl(address));
	return end;
}

#define POD	0x0a01000a /* 10.1.0.10 */
#define SERVICE 0x0a600001 /* 10.96.0.1 */
#define SERVER	0x0a01000b /* 10.1.0.11 */

static __always_inline void put_setting(__u32 engine)
{
	struct malla_setting values = {.node_cookie = 1, .engine = engine};
	__u32 first = 0;

	bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
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

static __always_inline void put_pod(__u32 flags)
{
	struct malla_end pod = end4(POD, 0);
	struct malla_pod value = {.interface = POD_INTERFACE, .flags = flags};

	bpf_map_update_elem(&malla_pod, &pod.address, &value, BPF_ANY);
}

static __always_inline struct packet packet_between(struct malla_end source,
						    struct malla_end target, __u8 flags)
{
	struct packet packet = {.flags = flags};

	packet.flow.source = source.address;
	packet.flow.source_port_be = source.port_be;
	packet.flow.target = target.address;
	packet.flow.target_port_be = target.port_be;
	packet.flow.protocol = IPPROTO_TCP;
	return packet;
}
