/* malla_chain.c - see the header. */
#define _GNU_SOURCE
#include "malla_chain.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Source: linux/bpf.h of Linux 6.6. */
#define CHAIN_BEFORE (1U << 3)
#define CHAIN_AFTER  (1U << 4)
#define CHAIN_LINK   (1U << 13)

int malla_chain_attach(int program, uint32_t interface, uint32_t attach_type,
		       enum malla_chain_place place, int neighbour)
{
	union bpf_attr attr;
	int result;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_ifindex = interface;
	attr.link_create.attach_type = attach_type;
	if (place != MALLA_CHAIN_LAST) {
		attr.link_create.flags =
		    CHAIN_LINK | (place == MALLA_CHAIN_BEFORE ? CHAIN_BEFORE : CHAIN_AFTER);
		/* A union with tcx.relative_fd since Linux 6.6. */
		attr.link_create.target_btf_id = (uint32_t)neighbour;
	}
	result = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	return result < 0 ? -errno : result;
}
