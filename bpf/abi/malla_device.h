/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_device.h - the rows about network devices of pods, as their own namespaces number them. As
 * in malla_abi.h, of which this is a part: a change of any layout bumps MALLA_ABI_VERSION.
 */
#pragma once
#include "malla_abi.h"

/* malla_device: to one of these, written by the agent. malla_asked: written by the programs. */
#define MALLA_DEVICE_OWN   1 /* the other end of the interface that bears the pod's programs */
#define MALLA_DEVICE_OTHER 2 /* that the pod has beside it */

struct malla_device {
	__u64 namespace_cookie;
	__u32 index;
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_device, 16);
