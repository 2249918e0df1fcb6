/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_snat.h - the rows about flows of which a tuple is written anew at an interface. As in
 * malla_abi.h, of which this is a part: a change of any layout bumps MALLA_ABI_VERSION.
 */
#pragma once
#include "malla_abi.h"

/* Where an entry of malla_snat is looked for. Append only. */
enum malla_nat_kind {
	MALLA_NAT_FROM_POD = 1,	   /* a pod's packet to a service, in from_pod */
	MALLA_NAT_TO_POD = 2,	   /* the answer to it, on its way into the pod */
	MALLA_NAT_HOME = 3,	   /* both, of a pod that reaches itself, in from_pod */
	MALLA_NAT_FROM_FABRIC = 4, /* a packet from outside to a service, at an uplink */
	MALLA_NAT_OUT_OF_POD = 5,  /* the answer of a local pod to it, in from_pod */
	MALLA_NAT_OUT_OF_NODE = 6, /* that of a server of the node, leaving by an uplink */
	MALLA_NAT_FROM_REMOTE = 7, /* that of an endpoint on another node, at an uplink */
};

/*
 * malla_snat: the tuple of a packet, exactly as it bears it, to the one that it gets. A flow has
 * two rows, each of which counts its own direction.
 */
struct malla_snat {
	struct malla_flow_key becomes;
	__u64 packets;
	__u64 bytes;   /* from the IP header on */
	__u64 seen_ns; /* bpf_ktime_get_ns of its last packet, to the second */
	__u32 kind;    /* enum malla_nat_kind */
	__u32 state;   /* see nat.h */
};
MALLA_ABI_SIZE(struct malla_snat, 72);
