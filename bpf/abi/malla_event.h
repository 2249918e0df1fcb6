/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_event.h - the records of flow events, which the programs write and the agent reads. As in
 * malla_abi.h, of which this is a part: a change of any layout bumps MALLA_ABI_VERSION.
 */
#pragma once
#include "malla_abi.h"

/*
 * malla_event, a ring: a flow was refused, or one that was admitted is part of the sample. Of the
 * refused packets of one tuple only the first in MALLA_EVENT_QUIET_NS is told, with how many there
 * were since.
 */
struct malla_event {
	__u64 time_ns;		     /* CLOCK_MONOTONIC */
	struct malla_flow_key tuple; /* as it was judged, else as the packet bears it */
	__u32 source_identity;
	__u32 target_identity;
	__u32 rule;	/* that decided; 0: none */
	__u32 packets;	/* refused since the event before of this tuple, this one included */
	__u8 hook;	/* enum malla_hook */
	__u8 verdict;	/* enum malla_verdict */
	__u8 direction; /* enum malla_direction: whose policies decided, else where it went */
	__u8 flags;	/* of TCP */
	/* Of the pod whose socket was refused, whose source is not known yet; 0: none, or no pod's.
	 */
	__u32 interface;
};
MALLA_ABI_SIZE(struct malla_event, 72);

#define MALLA_EVENT_QUIET_NS 10000000000ULL

/* Events that one processor writes in a tick of 1.07 s; what is beyond is counted, not told. */
#define MALLA_EVENTS_PER_TICK_MAX 1024

/* malla_denied: refused tuples that an event has told of. */
struct malla_denied {
	__u64 told_ns;
	__u32 packets; /* refused since then */
	__u8 verdict;  /* enum malla_verdict */
	__u8 pad[3];
};
MALLA_ABI_SIZE(struct malla_denied, 16);

/* Rows of malla_meter, a count a processor each. Append only. */
enum malla_meter {
	MALLA_METER_WRITTEN = 0,   /* events in the ring */
	MALLA_METER_RING_FULL = 1, /* lost: the ring had no room */
	MALLA_METER_RATE = 2,	   /* lost: too many in one tick */
	MALLA_METER_REPEATED = 3,  /* packets of a tuple that was told lately */
	MALLA_METER_TICK = 4,	   /* the tick of the next row */
	MALLA_METER_USED = 5,	   /* events in it */
	MALLA_METERS = 6,
};
