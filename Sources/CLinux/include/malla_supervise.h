/* What the supervisor needs of Linux: descriptors over a socket, signals as a descriptor, a child,
 * the engine's network namespace by rtnetlink. All return -errno on failure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One packet of a SOCK_SEQPACKET socket with its descriptors. */
int malla_control_pair(int pair[2]);
int malla_control_send(int socket, const void *bytes, size_t count, const int *descriptors,
		       size_t descriptor_count);
/* The bytes read; 0 when the other end is gone. *descriptor_count: room before, found after. */
ssize_t malla_control_receive(int socket, void *bytes, size_t room, int *descriptors,
			      size_t *descriptor_count);

/* SIGTERM, SIGINT, SIGUSR2 and SIGCHLD as a non-blocking descriptor; the calling thread and those
 * that it starts no longer take them. SIGPIPE is ignored. */
int malla_signals_open(void);
/* The next signal, 0 if there is none. */
int malla_signals_next(int descriptor);

/* Starts `path` with `count` arguments, laid end to end with a NUL after each; `control` becomes
 * descriptor 3. Everything else that is open must be close-on-exec. */
int malla_spawn(const char *path, const char *arguments, size_t count, int control);
/* What ps and /proc/PID/comm call this process: the first 15 bytes of `name`. From its first thread. */
void malla_name_process(const char *name);

/* Ends the calling process with SIGKILL when the thread that started it ends. */
int malla_die_with_parent(pid_t parent);
/* No program that the calling thread, or one that it starts, executes has more privileges than it:
 * root's programs get no capabilities back. 0 or -errno. */
int malla_gain_nothing(void);
/* Leaves the calling thread, and those that it starts, NET_ADMIN, BPF and PERFMON of the
 * capabilities that it has; 0 or -errno. */
int malla_drop_capabilities(void);
/* 1: the child is gone and *code (exit) or *signal says how; 0: it lives. */
int malla_child_gone(pid_t child, int *code, int *signal);

/* A network namespace that nothing names; the caller stays where it is. */
int malla_netns_create(void);
/* A descriptor of the namespace the thread was in. */
int malla_netns_enter(int descriptor);
int malla_netns_leave(int previous);

/* veth `node_name` here, `engine_name` in `engine_netns`; both down, without ARP, same address. */
int malla_veth_create(const char *node_name, int engine_netns, const char *engine_name);
int malla_link_remove(const char *name);
int malla_link_set_up(const char *name, bool up);
/* 1: it is up; 0: it is down. */
int malla_link_is_up(const char *name);
/* Rules and routes of the engine's namespace, in which the caller must be; `device` is up. */
int malla_engine_routes(int family, const char *device);
/* The same where some of them are there already; how many were missing. */
int malla_engine_routes_repair(int family, const char *device);
/* What leaves by its default route is no longer than `mtu` bytes; 0: than the device says. */
int malla_engine_mtu(int family, const char *device, uint32_t mtu);

/* A listening TCP socket, non-blocking, close-on-exec. `address` is IPv6 or v4-mapped. */
#define MALLA_LISTEN_REUSEPORT 1
#define MALLA_LISTEN_DUAL 2 /* `::` takes IPv4 too */
int malla_listen(const uint8_t address[16], uint16_t port, int flags, int backlog);
/* 0, or why a socket that shares its port with nobody could not be bound. */
int malla_port_probe(const uint8_t address[16], uint16_t port, int flags);
/* The port a socket is bound to, in host order. */
int malla_local_port(int socket);
/* A unix stream socket that listens; path[0] == 0: abstract (scoped to the network namespace). */
int malla_unix_listen(const char *path, size_t length, int backlog);
/* The process that listens there; -ECONNREFUSED or -ENOENT: nobody. */
int malla_unix_holder(const char *path, size_t length);

/* bpf(2): sets 32 bits at `offset` of the first row of a pinned array; rows of up to 256 bytes. */
int malla_pinned_word_set(const char *path, size_t row_bytes, size_t offset, uint32_t value);

/* Mounts a bpffs there; 0 or -errno. */
int malla_mount_bpf(const char *path);
bool malla_bpffs_at(const char *path);
bool malla_cgroup2_at(const char *path);
