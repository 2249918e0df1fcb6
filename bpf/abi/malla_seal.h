/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_seal.h - what the tc programs of one hook tell each other. As in malla_abi.h, of which this
 * is a part: pinned programs of two agents may stand at one hook while one takes over.
 */
#pragma once
#include "malla_abi.h"

/* In cb[0] of a packet that a hook's program lets pass, for its guard: plus the hook's number. */
#define MALLA_SEAL 0x6d616c00
