/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * malla_abi.h - every struct and number that the kernel's side and the agent's side share. Read by
 * clang for BPF, by the host's C compiler, and by Swift as module CMallaABI; there is no second
 * copy.
 *
 * Fixed widths, widest first, padding named and always zero, byte order in the name. Pins live
 * under malla/v<MALLA_ABI_VERSION>: a change of any layout here bumps the version.
 */
#pragma once
#include <linux/types.h>

#define MALLA_ABI_VERSION 1

#ifdef __cplusplus
#define MALLA_ABI_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), "changed size")
#else
#define MALLA_ABI_SIZE(type, bytes)                                                                \
	_Static_assert(sizeof(type) == (bytes), #type " changed size: bump MALLA_ABI_VERSION")
#endif

/* Where a program is attached; the first index of malla_count. Append only. */
#define MALLA_HOOK_LIST(X)                                                                         \
	X(CONNECT4, 0, "connect4")                                                                 \
	X(CONNECT6, 1, "connect6")                                                                 \
	X(SENDMSG4, 2, "sendmsg4")                                                                 \
	X(SENDMSG6, 3, "sendmsg6")                                                                 \
	X(RECVMSG4, 4, "recvmsg4")                                                                 \
	X(RECVMSG6, 5, "recvmsg6")                                                                 \
	X(GETPEERNAME4, 6, "getpeername4")                                                         \
	X(GETPEERNAME6, 7, "getpeername6")                                                         \
	X(FROM_POD, 8, "from_pod")                                                                 \
	X(TO_POD, 9, "to_pod")                                                                     \
	X(FROM_ENGINE, 10, "from_engine")                                                          \
	X(UPLINK, 11, "uplink")                                                                    \
	X(TO_LISTENER, 12, "to_listener")

/*
 * What a program decided, and why: number, then the name that is the metric's label and what the
 * command line prints. Append only; a retired number stays reserved.
 *
 * pass              nothing of Malla's; whatever comes next decides
 * balanced          socket: the service's address was replaced by an endpoint's
 * left_captured     socket: left alone, because the connection is captured at the pod's interface
 * no_endpoint       refused: the service has no ready endpoint of this family
 * own_socket        socket: the agent's own, never balanced
 * restored          socket: the application is shown the address that it dialled
 * captured          a new connection to a captured service: recorded, given to the engine
 * to_engine         a packet of a connection that the engine holds
 * icmp_to_engine    an ICMP error about such a connection
 * stray_to_engine   mid-stream to a captured service, unknown here: the engine answers, if it can
 * no_engine         dropped: the engine has no interface now (fail closed)
 * pod_met_engine    dropped: the pod dials from a port that the engine holds towards the same end
 * engine_met_pod    dropped: the engine dials from a port that the pod holds towards the same end
 * uplink_met_engine dropped: another node's connection on a tuple that the engine holds
 * foreign           dropped: left the engine, but is not TCP or concerns no local pod
 * to_local_pod      from the engine straight into a local pod
 * forwarded         from the engine to another node by the node's routes
 * as_pod            from the engine up the node's stack, as if its client had sent it
 * as_pod_too_long   the same, because the packet exceeds the route's MTU
 * as_pod_no_route   the same, because the routes refuse it or know no way
 * returned          the packet of `as_pod`, seen again at the client's interface
 * assigned          a captured connection was given to a worker's listener
 * no_listener       reset: no worker listens
 * no_flow           reset: a connection in the engine's namespace that nothing captured
 * spoofed           dropped: a connection's packet came out of another pod's interface
 * flow_refused      dropped: the flow table refused the entry
 * failed            dropped: a call of the kernel failed
 * translated        a pod outside of the mesh to a captured service: an endpoint's address written
 * translated_back   the answer to it: the service's address written
 */
#define MALLA_VERDICT_LIST(X)                                                                      \
	X(PASS, 0, "pass")                                                                         \
	X(BALANCED, 1, "balanced")                                                                 \
	X(LEFT_CAPTURED, 2, "left_captured")                                                       \
	X(NO_ENDPOINT, 3, "no_endpoint")                                                           \
	X(OWN_SOCKET, 4, "own_socket")                                                             \
	X(RESTORED, 5, "restored")                                                                 \
	X(CAPTURED, 6, "captured")                                                                 \
	X(TO_ENGINE, 7, "to_engine")                                                               \
	X(ICMP_TO_ENGINE, 8, "icmp_to_engine")                                                     \
	X(STRAY_TO_ENGINE, 9, "stray_to_engine")                                                   \
	X(NO_ENGINE, 10, "no_engine")                                                              \
	X(POD_MET_ENGINE, 11, "pod_met_engine")                                                    \
	X(ENGINE_MET_POD, 12, "engine_met_pod")                                                    \
	X(UPLINK_MET_ENGINE, 13, "uplink_met_engine")                                              \
	X(FOREIGN, 14, "foreign")                                                                  \
	X(TO_LOCAL_POD, 15, "to_local_pod")                                                        \
	X(FORWARDED, 16, "forwarded")                                                              \
	X(AS_POD, 17, "as_pod")                                                                    \
	X(AS_POD_TOO_LONG, 18, "as_pod_too_long")                                                  \
	X(AS_POD_NO_ROUTE, 19, "as_pod_no_route")                                                  \
	X(RETURNED, 20, "returned")                                                                \
	X(ASSIGNED, 21, "assigned")                                                                \
	X(NO_LISTENER, 22, "no_listener")                                                          \
	X(NO_FLOW, 23, "no_flow")                                                                  \
	X(SPOOFED, 24, "spoofed")                                                                  \
	X(FLOW_REFUSED, 25, "flow_refused")                                                        \
	X(FAILED, 26, "failed")                                                                    \
	X(TRANSLATED, 27, "translated")                                                            \
	X(TRANSLATED_BACK, 28, "translated_back")

#define MALLA_HOOK_ENTRY(name, number, text)	MALLA_HOOK_##name = (number),
#define MALLA_VERDICT_ENTRY(name, number, text) MALLA_VERDICT_##name = (number),
enum malla_hook { MALLA_HOOK_LIST(MALLA_HOOK_ENTRY) };
enum malla_verdict { MALLA_VERDICT_LIST(MALLA_VERDICT_ENTRY) };

/* malla_count is an array of MALLA_HOOKS_MAX rows of MALLA_VERDICTS_MAX. */
#define MALLA_HOOKS_MAX	   32
#define MALLA_VERDICTS_MAX 64

/* Ports on a pod's address from here on are the engine's (61000-65535). */
#define MALLA_ENGINE_PORT_MIN 61000
#define MALLA_LISTENERS_MAX   256

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d, in network order. */
struct malla_address {
	__u32 words_be[4];
};
MALLA_ABI_SIZE(struct malla_address, 16);

/* One end of a connection, and the key of a service. */
struct malla_end {
	struct malla_address address;
	__u16 port_be;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 pad;
};
MALLA_ABI_SIZE(struct malla_end, 20);

/* The service has connections to be captured at the interfaces of pods in the mesh. */
#define MALLA_SERVICE_CAPTURED 1

/* malla_service: a service's address, port and protocol to this. */
struct malla_service {
	__u32 id;	 /* of its endpoints' rows; one service port and family, never 0 */
	__u32 endpoints; /* how many rows: slots 0 ..< endpoints */
	__u32 flags;
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_service, 16);

/* malla_endpoint: the ready endpoints of a service, by slot. */
struct malla_endpoint_key {
	__u32 service;
	__u32 slot;
};
MALLA_ABI_SIZE(struct malla_endpoint_key, 8);

/* The pod is in the mesh: its connections to captured services go to the engine. */
#define MALLA_POD_MESHED 1

/* malla_pod: a local pod's address to this. */
struct malla_pod {
	__u32 interface; /* index of the node's side of its veth */
	__u32 flags;
};
MALLA_ABI_SIZE(struct malla_pod, 8);

/* malla_flow: the tuple exactly as a packet bears it. */
struct malla_flow_key {
	struct malla_address source;
	struct malla_address target;
	__u16 source_port_be;
	__u16 target_port_be;
	__u8 protocol;
	__u8 pad[3];
};
MALLA_ABI_SIZE(struct malla_flow_key, 40);

/* Append only. */
enum malla_flow_kind {
	MALLA_FLOW_CAPTURED = 1,	/* from a pod to a service: the engine's to receive */
	MALLA_FLOW_DIALLED = 2,		/* answers to what the engine dialled: the engine's */
	MALLA_FLOW_OWN = 3,		/* of a pod that uses one of the engine's ports itself */
	MALLA_FLOW_TRANSLATED = 4,	/* from a pod outside the mesh; `other`: the endpoint */
	MALLA_FLOW_TRANSLATED_BACK = 5, /* its answers; `other` is the service */
};

struct malla_flow {
	struct malla_end other; /* of translated flows, else zero */
	__u32 kind;		/* enum malla_flow_kind */
	__u32 interface;	/* of the local pod that sends these packets; 0: not known */
};
MALLA_ABI_SIZE(struct malla_flow, 28);

/* malla_dialled: what a socket dialled, by the endpoint that it got instead. */
struct malla_dialled_key {
	__u64 socket_cookie;
	struct malla_end endpoint;
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_dialled_key, 32);

/* malla_setting: one row, written by the loader before anything is attached and at each change. */
struct malla_setting {
	__u64 node_cookie;   /* of the node's own network namespace */
	__u64 agent_cgroup;  /* its sockets are never balanced; 0: none */
	__u32 agent_process; /* the same by process id; 0: none */
	__u32 engine;	     /* interface index of the node's side of its veth; 0: no engine */
	__u32 listeners;     /* rows in use of malla_listen */
	__u8 engine_mac[6];  /* of both ends of that veth */
	__u8 pad[6];
};
MALLA_ABI_SIZE(struct malla_setting, 40);

#ifndef __bpf__
/* Static text for the hook's or verdict's number; a null pointer for one that does not exist. */
const char *malla_hook_name(__u32 number);
const char *malla_verdict_name(__u32 number);
#endif
