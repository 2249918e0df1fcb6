/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_mode.h - the rows about mutual TLS, which the agent writes and the programs read. As in
 * malla_abi.h, of which this is a part: a change of any layout bumps MALLA_ABI_VERSION.
 */
#pragma once
#include "malla_abi.h"

/* malla_mode: a port of a local pod to one of these, where it is not what the pod's flags say. */
#define MALLA_MODE_OPEN	  1 /* takes plain text */
#define MALLA_MODE_STRICT 2 /* takes tunnels, and what this node vouches for */

struct malla_mode_key {
	__u32 endpoint; /* of malla_pod; MALLA_MODE_FAR and a number of malla_peer's */
	__u16 port_be;
	__u16 pad;
};
MALLA_ABI_SIZE(struct malla_mode_key, 8);

/* malla_peer: the address of a pod elsewhere to this; of a node within a block of pods to 0. */
#define MALLA_PEER_HBONE 1 /* tunnels to it end at its node */
#define MALLA_PEER_POD	 2 /* every row of a pod */
/* No tunnels lead to it, and it insists on mutual TLS: as MALLA_POD_STRICT, MALLA_POD_MODES. */
#define MALLA_PEER_STRICT 4
#define MALLA_PEER_MODES  8
/* The upper bits: of pods whose ports differ in the same way, one number. */
#define MALLA_PEER_SHIFT 8
#define MALLA_MODE_FAR	 0x80000000u
