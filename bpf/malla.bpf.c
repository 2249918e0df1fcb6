/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla.bpf.c - the table of contents of the datapath: one object, one load, maps shared by
 * construction. Below lib/ one header holds one map and the only functions that touch it; in
 * hooks/ one file is one place where packets or sockets are met, in the order a connection meets
 * them. A hook is a few lines around a core that answers a numbered verdict; only the hook
 * knows what its return value means to the kernel.
 */
#include "hooks/socket.h"
#include "hooks/from_pod.h"
#include "hooks/to_listener.h"
#include "hooks/from_engine.h"
#include "hooks/to_pod.h"
#include "hooks/from_fabric.h"
#include "hooks/hold.h"
#include "hooks/behind.h"
#include "hooks/nudge.h"
#include "hooks/outside.h"
#include "hooks/guard.h"

char malla_license[] SEC("license") = "Dual BSD/GPL";
