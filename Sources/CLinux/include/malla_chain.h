/*
 * malla_chain.h - a program's place among others at an interface's TCX hook (Linux 6.6), which
 * Debian 12's libbpf cannot name.
 */
#ifndef MALLA_CHAIN_H
#define MALLA_CHAIN_H

#include <stdint.h>

enum malla_chain_place {
	MALLA_CHAIN_LAST,   /* behind all others; `neighbour` means nothing */
	MALLA_CHAIN_BEFORE, /* directly before the link `neighbour` */
	MALLA_CHAIN_BEHIND, /* directly behind it */
};

/*
 * Attaches `program` at the hook (BPF_TCX_INGRESS 46, BPF_TCX_EGRESS 47): a descriptor of the link,
 * or a negative errno. -ENOENT: the neighbour is not attached there.
 */
int malla_chain_attach(int program, uint32_t interface, uint32_t attach_type,
		       enum malla_chain_place place, int neighbour);

#endif
