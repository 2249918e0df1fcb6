/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_dialled.h - the rows about sockets that dialled a service, which the programs write and the
 * agent reads. As in malla_abi.h, of which this is a part: a change of any layout bumps
 * MALLA_ABI_VERSION.
 */
#pragma once
#include "malla_abi.h"

/* malla_dialled: what a socket dialled, by the endpoint that it got instead. */
struct malla_dialled_key {
	__u64 socket_cookie;
	struct malla_end endpoint;
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_dialled_key, 32);

struct malla_dialled {
	__u64 namespace_cookie;	  /* of the socket */
	struct malla_end service; /* what it dialled */
	__u32 process;		  /* that dialled; its namespace is the socket's */
};
MALLA_ABI_SIZE(struct malla_dialled, 32);
