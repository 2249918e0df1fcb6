/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * service.h - a virtual address, port and protocol: which service that is. A node port is one row
 * with the address of its family all zero, which stands for every address of every node; which
 * addresses those are is a map of its own, so that node ports times nodes is no number of rows, but
 * for externalTrafficPolicy Local at other nodes' addresses.
 */
#pragma once
#include "lib/packet.h"

/*
 * Written by BPFLoader/Projection at each change of configuration; read at each connect(2) and at
 * each packet that begins a flow. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct malla_end);
	__type(value, struct malla_service);
} malla_service SEC(".maps");

/* The nodes' addresses: MALLA_NEAR_*. Written by BPFLoader/Projection; read with node ports. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct malla_address);
	__type(value, __u32);
} malla_near SEC(".maps");

/* Whom a load balancer's address serves. Written by BPFLoader/Projection; read with its rows. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_range);
	__type(value, __u32);
} malla_range SEC(".maps");

static __always_inline int address_is_ip4(const struct malla_address *address)
{
	return !address->words_be[0] && !address->words_be[1] &&
	       address->words_be[2] == bpf_htonl(0xffff);
}

/* 127.0.0.0/8 and ::1. */
static __always_inline int address_is_loopback(const struct malla_address *address)
{
	if (address_is_ip4(address))
		return (address->words_be[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !address->words_be[0] && !address->words_be[1] && !address->words_be[2] &&
	       address->words_be[3] == bpf_htonl(1);
}

/* The row of exactly this address. */
static __always_inline const struct malla_service *service_find(const struct malla_end *end)
{
	return bpf_map_lookup_elem(&malla_service, end);
}

/* The row of a node port, whosever address it is asked for at. */
static __always_inline const struct malla_service *service_find_port(const struct malla_end *end)
{
	struct malla_end any = {.port_be = end->port_be, .protocol = end->protocol};

	if (address_is_ip4(&end->address))
		any.address.words_be[2] = bpf_htonl(0xffff);
	return service_find(&any);
}

/*
 * The service that somebody on this node means by `end`. Node ports are found at the addresses of
 * every node; with policy Local, and host ports, at this node's only: those of other nodes have
 * rows with their nodes' addresses. `loopback`: whether the caller's loopback addresses are the
 * node's.
 */
static __always_inline const struct malla_service *service_meant(const struct malla_end *end,
								 int loopback)
{
	/* Who dials no address reaches himself. */
	int is_loopback =
	    address_is_loopback(&end->address) || address_is_unspecified(&end->address);
	const struct malla_service *service;
	const __u32 *near;

	/* A pod's loopback leads nowhere else, whatever rows there are. */
	if (is_loopback && !loopback)
		return 0;
	service = service_find(end);
	if (service)
		return service;
	service = service_find_port(end);
	if (!service)
		return 0;
	if (is_loopback)
		return service;
	near = bpf_map_lookup_elem(&malla_near, &end->address);
	if (!near || (*near == MALLA_NEAR_OTHER && (service->flags & MALLA_SERVICE_THIS_NODE)))
		return 0;
	return service;
}

/* The service that somebody outside means by `end`, as far as it is served to him here. */
static __always_inline const struct malla_service *
service_meant_outside(const struct malla_end *end)
{
	const struct malla_service *service;
	const __u32 *near;

	/* The row of a node port, which is nobody's address. */
	if (address_is_unspecified(&end->address))
		return 0;
	service = service_find(end);
	if (service)
		return service->outside.id ? service : 0;
	service = service_find_port(end);
	if (!service)
		return 0;
	near = bpf_map_lookup_elem(&malla_near, &end->address);
	return near && *near == MALLA_NEAR_OWN ? service : 0;
}

static __always_inline int service_is_captured(const struct malla_service *service)
{
	return (service->flags & MALLA_SERVICE_CAPTURED) != 0;
}

/* Only its source ranges say who may use it. */
static __always_inline int service_is_ranged(const struct malla_service *service)
{
	return (service->flags & MALLA_SERVICE_RANGED) != 0;
}

static __always_inline int service_admits(const struct malla_service *service,
					  const struct malla_address *source)
{
	struct malla_range key = {.prefix_bits = 32 + 128, .service = service->inside.id};

	if (!service_is_ranged(service))
		return 1;
	key.address = *source;
	return bpf_map_lookup_elem(&malla_range, &key) != 0;
}
