/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* fragment.h - the ports of packets that come in fragments, of which only the first bears them. */
#pragma once
#include "lib/packet.h"

/* Written at each first fragment, read at each later one. LRU: nothing tells of the last one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct malla_fragment_key);
	__type(value, struct malla_fragment);
} malla_fragment SEC(".maps");

/* Where in its datagram a packet belongs. */
struct fragment {
	__u32 id_be;
	__u16 offset; /* units of eight bytes */
	__u8 has_more;
	__u8 pad;
};

static __always_inline struct malla_fragment_key fragment_key(const struct packet *packet,
							      const struct fragment *fragment)
{
	struct malla_fragment_key key = {
	    .source = packet->flow.source,
	    .target = packet->flow.target,
	    .id_be = fragment->id_be,
	    .protocol = packet->flow.protocol,
	};

	return key;
}

/* Of a first fragment whose transport header was read. */
static __always_inline void fragment_record(const struct packet *packet,
					    const struct fragment *fragment)
{
	struct malla_fragment_key key = fragment_key(packet, fragment);
	struct malla_fragment ports = {
	    .source_port_be = packet->flow.source_port_be,
	    .target_port_be = packet->flow.target_port_be,
	};

	bpf_map_update_elem(&malla_fragment, &key, &ports, BPF_ANY);
}

/*
 * A later fragment gets the ports of its first. One that begins inside TCP's header would write
 * over the flags that were judged (RFC 3128).
 */
static __always_inline enum malla_verdict fragment_follow(struct packet *packet,
							  const struct fragment *fragment)
{
	struct malla_fragment_key key = fragment_key(packet, fragment);
	const struct malla_fragment *ports;

	if (packet->flow.protocol == IPPROTO_TCP && fragment->offset < 3)
		return MALLA_VERDICT_FRAGMENT_SHORT;
	ports = bpf_map_lookup_elem(&malla_fragment, &key);
	if (!ports)
		return MALLA_VERDICT_FRAGMENT_LOST;
	packet->flow.source_port_be = ports->source_port_be;
	packet->flow.target_port_be = ports->target_port_be;
	packet->is_fragment = 1;
	return MALLA_VERDICT_PASS;
}
