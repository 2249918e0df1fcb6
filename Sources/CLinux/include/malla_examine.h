/*
 * malla_examine.h - questions that `malla check` puts to the kernel (the agent, too, about TCX), and
 * the CLI's way to the agent's socket. Nothing here changes the machine: programs are loaded and
 * closed at once, never attached; ports are bound and released. Every function answers 0 (or a
 * count, or a descriptor) or a negative errno.
 */
#ifndef MALLA_EXAMINE_H
#define MALLA_EXAMINE_H

#include <stddef.h>
#include <stdint.h>

/* A name with its terminator: a program's is at most 15 characters, a filter's kind 15, its own
 * 255. */
#define MALLA_EXAMINE_NAME_BYTES 256

/* Programs of one hook that are told of. */
#define MALLA_EXAMINE_PROGRAMS_MAX 64

/* Whether the verifier takes a two-instruction program of this type and attach type. */
int malla_examine_program(uint32_t type, uint32_t attach_type);

/*
 * The ids of the programs at an interface's TCX hook (BPF_TCX_INGRESS 46, BPF_TCX_EGRESS 47).
 * `count` goes in as the room in `ids`. -EINVAL: the kernel has no TCX.
 */
int malla_examine_tcx(uint32_t interface, uint32_t attach_type, uint32_t *ids, uint32_t *count);

/* The name of a loaded program. */
int malla_examine_program_name(uint32_t id, char *name, size_t bytes);

/*
 * How many classic tc filters sit at an interface's clsact hook; `name` gets the first one's (of
 * its program, else its kind).
 */
int malla_examine_filters(uint32_t interface, int is_egress, char *name, size_t bytes);

/* Whether a TCP port can be bound: on 127.0.0.1, or on all addresses of both families. */
int malla_examine_port(uint16_t port, int is_loopback);

/* Connects to a Unix socket; reads and writes of the descriptor time out. */
int malla_examine_connect(const char *path, int timeout_milliseconds);

/* Sends all bytes, or answers the negative errno. */
int malla_examine_send(int descriptor, const void *bytes, size_t count);

/* Receives at most `count` bytes: how many, 0 at the end. */
long malla_examine_receive(int descriptor, void *bytes, size_t count);

/* Closes a descriptor that malla_examine_connect gave. */
void malla_examine_close(int descriptor);

#endif
