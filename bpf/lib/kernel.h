/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* kernel.h - what the programs use of the kernel's interface, and numbers that Debian 12's headers
 * do not have yet. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "malla_abi.h"

/* What a TCX program returns. Source: enum tcx_action_base, Linux 6.6. */
#define TCX_NEXT (-1)
#define TCX_PASS 0
#define TCX_DROP 2

#define AF_INET	     2
#define AF_INET6     10
#define EPERM	     1
#define ENODEV	     19
#define ECONNREFUSED 111
#define ICMPV6	     58
#define SOL_SOCKET   1
#define SO_PRIORITY  12

/* The index of `lo` in every network namespace. */
#define LOOPBACK 1

/* bpf_fib_lookup leaves the neighbour to bpf_redirect_neigh. Linux 6.3. */
#define FIB_SKIP_NEIGH 4

/*
 * One word of a context, read as one word: clang 14 reads arrays of the sk_lookup context through a
 * moved pointer, which the verifier refuses.
 */
#define CONTEXT_WORD(ctx, at) (*(const volatile __u32 *)((const char *)(ctx) + (at)))
