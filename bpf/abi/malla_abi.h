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

#define MALLA_ABI_VERSION 4

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
	X(TO_LISTENER, 12, "to_listener")                                                          \
	X(FROM_SOCKET, 13, "from_socket")                                                          \
	X(TO_SOCKET, 14, "to_socket")                                                              \
	X(OUTSIDE, 15, "outside")                                                                  \
	X(BACK, 16, "back")                                                                        \
	X(LEAVING, 17, "leaving")

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
 * no_engine         dropped: mid-stream, and the engine has no interface now
 * pod_met_engine    dropped: the pod dials from a port that the engine holds towards the same end
 * engine_met_pod    reset: the engine dials from a port that somebody holds towards the same end
 * uplink_met_engine dropped: another node's connection on a tuple that the engine holds
 * foreign           dropped: left the engine, but is not TCP or concerns no local pod
 * to_local_pod      from the engine straight into a local pod
 * forwarded         from the engine, or from a pod to one of another node, by the node's routes
 * as_pod            from the engine up the node's stack, as if its client had sent it
 * as_pod_too_long   the same, because the packet exceeds the route's MTU
 * as_pod_no_route   the same, because the routes refuse it or know no way
 * returned          the packet of `as_pod`, seen again at the client's interface
 * assigned          a captured connection was given to a worker's listener
 * no_listener       reset: no worker listens
 * no_flow           reset: a connection in the engine's namespace that nothing captured
 * spoofed           dropped: a packet came out of a pod that bears an address not the pod's
 * flow_refused      dropped: no room for the flow in the table, or in its pod's quota
 * failed            dropped: a call of the kernel failed
 * translated        a pod outside of the mesh to a captured service: an endpoint's address written
 * translated_back   the answer to it: the service's address written
 * direct            straight into a pod of this node, from a pod of it or of another node
 * related           an ICMP error about a known flow
 * link_local        what a link needs by itself: ARP, neighbour discovery, DHCP
 * audited           a policy denies it, and is only being tried: counted, passed
 * denied_egress     dropped: the policies of the pod that sends do not allow it
 * denied_ingress    dropped: the policies of the pod that would receive do not allow it
 * cut               a known flow that the policies, changed since, no longer allow: both ends of a
 *                   connection are reset, all else is dropped
 * malformed         dropped: a header is short, or contradicts itself
 * fragment_lost     dropped: a later fragment of a packet whose first one was not seen
 * fragment_short    dropped: a first fragment without a whole header, or one that overlaps it
 * headers_too_many  dropped: more IPv6 extension headers than are followed
 * sctp              dropped: SCTP is not supported
 * not_ip            dropped: neither IPv4, IPv6 nor ARP came out of a pod
 * not_ready         dropped: the pod's rows are not in the maps yet
 * left_ranged       socket: left alone, the service's source ranges are judged at the interface
 * source_refused    dropped: the service's source ranges do not hold the client
 * brought_home      a pod's packet to a service of which it is the endpoint: given to itself
 * snat_ports        refused: no port is free to dial the endpoint from, or its tuple is in use
 * too_long          answered: the packet exceeds the MTU of the way to the endpoint
 * no_way            dropped: the node's routes know no way to the endpoint or the client
 * past_engine       no engine serves, and the pod fails open: an endpoint's address written
 * engine_refused    reset: no engine serves, and the pod fails closed
 * snat_full         dropped: the table of translations has no room for another flow
 * unrelated         dropped: an ICMP error that does not go to whom its quoted packet came from
 * unasked           dropped: an answer (SYN-ACK, echo reply) in a flow that nobody has opened
 * off_link          dropped: neighbour discovery out of a pod to what is not on its link
 * plain_refused     reset: plain text, and the pod that would receive insists on mutual TLS; at the
 *                   client's node where that pod's has no agent
 * unguarded         dropped: the hook's program, which would have judged it, is not there
 * no_source         refused: the node has no address of the family to dial the endpoint from
 * expired           answered: the packet's time to live ends here
 * devices_full      dropped: by a device of the pod that the agent could not be asked about
 * nudged            an end of a connection that may not go on, or was silent for hours, is asked
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
	X(TRANSLATED_BACK, 28, "translated_back")                                                  \
	X(DIRECT, 29, "direct")                                                                    \
	X(RELATED, 30, "related")                                                                  \
	X(LINK_LOCAL, 31, "link_local")                                                            \
	X(AUDITED, 32, "audited")                                                                  \
	X(DENIED_EGRESS, 33, "denied_egress")                                                      \
	X(DENIED_INGRESS, 34, "denied_ingress")                                                    \
	X(CUT, 35, "cut")                                                                          \
	X(MALFORMED, 36, "malformed")                                                              \
	X(FRAGMENT_LOST, 37, "fragment_lost")                                                      \
	X(FRAGMENT_SHORT, 38, "fragment_short")                                                    \
	X(HEADERS_TOO_MANY, 39, "headers_too_many")                                                \
	X(SCTP, 40, "sctp")                                                                        \
	X(NOT_IP, 41, "not_ip")                                                                    \
	X(NOT_READY, 42, "not_ready")                                                              \
	X(LEFT_RANGED, 43, "left_ranged")                                                          \
	X(SOURCE_REFUSED, 44, "source_refused")                                                    \
	X(BROUGHT_HOME, 45, "brought_home")                                                        \
	X(SNAT_PORTS, 46, "snat_ports")                                                            \
	X(TOO_LONG, 47, "too_long")                                                                \
	X(NO_WAY, 48, "no_way")                                                                    \
	X(PAST_ENGINE, 49, "past_engine")                                                          \
	X(ENGINE_REFUSED, 50, "engine_refused")                                                    \
	X(SNAT_FULL, 51, "snat_full")                                                              \
	X(UNRELATED, 52, "unrelated")                                                              \
	X(UNASKED, 53, "unasked")                                                                  \
	X(OFF_LINK, 54, "off_link")                                                                \
	X(PLAIN_REFUSED, 55, "plain_refused")                                                      \
	X(UNGUARDED, 56, "unguarded")                                                              \
	X(NO_SOURCE, 57, "no_source")                                                              \
	X(EXPIRED, 58, "expired")                                                                  \
	X(DEVICES_FULL, 59, "devices_full")                                                        \
	X(NUDGED, 60, "nudged")

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

/* malla_service's flags. */
#define MALLA_SERVICE_CAPTURED	1 /* to be captured at the interfaces of pods in the mesh */
#define MALLA_SERVICE_RANGED	2 /* malla_range says which sources it admits */
#define MALLA_SERVICE_THIS_NODE 4 /* a node port that other nodes' addresses do not have here */
#define MALLA_SERVICE_WEIGHTED	8 /* its endpoints differ in weight: choose by the table */

/* Endpoints that serve together. */
struct malla_group {
	__u32 id;	 /* of its rows; 0: there is no group */
	__u32 endpoints; /* how many rows: slots 0 ..< endpoints */
	__u32 positions; /* of its Maglev table; 0: it has none */
};
MALLA_ABI_SIZE(struct malla_group, 12);

/*
 * malla_service: a service's address, port and protocol to this. A node port has the address zero
 * (0.0.0.0 as IPv4-mapped, or ::).
 */
struct malla_service {
	struct malla_group inside;  /* for pods and the node; its id is never 0 */
	struct malla_group outside; /* for what comes in by an uplink; id 0: not served there */
	__u32 flags;
	__u32 affinity_seconds; /* 0: no affinity */
};
MALLA_ABI_SIZE(struct malla_service, 32);

/* malla_endpoint: the endpoints of a group, by slot. */
struct malla_endpoint_key {
	__u32 group;
	__u32 slot;
};
MALLA_ABI_SIZE(struct malla_endpoint_key, 8);

/* malla_maglev: a group's table in pieces. */
#define MALLA_MAGLEV_BYTES 256
struct malla_maglev_key {
	__u32 group;
	__u32 piece;
};
MALLA_ABI_SIZE(struct malla_maglev_key, 8);

struct malla_maglev {
	__u8 positions[MALLA_MAGLEV_BYTES];
};
MALLA_ABI_SIZE(struct malla_maglev, 256);

/* Ports from which this node dials endpoints on others: below those that its sockets dial from. */
#define MALLA_SNAT_PORT_MIN 10000
#define MALLA_SNAT_PORT_MAX 29999

/* malla_near: an address of a node to one of these. */
#define MALLA_NEAR_OWN	 1
#define MALLA_NEAR_OTHER 2

/* malla_range: sources that a service admits; `service` is the id of its group `inside`. */
struct malla_range {
	__u32 prefix_bits; /* 32 for the service, then those of the address */
	__u32 service;
	struct malla_address address;
};
MALLA_ABI_SIZE(struct malla_range, 24);

/* malla_member: an endpoint is in a group (of a service with affinity). */
struct malla_member {
	struct malla_end endpoint;
	__u32 group;
};
MALLA_ABI_SIZE(struct malla_member, 24);

/* malla_affinity: the endpoint that a client of a group had last. */
struct malla_affinity_key {
	__u64 namespace_cookie;	      /* of a socket's client, else 0 */
	struct malla_address address; /* of a packet's source, else zero */
	__u32 group;
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_affinity_key, 32);

struct malla_affinity {
	__u64 seen_ns; /* bpf_ktime_get_ns of its last connection */
	struct malla_end endpoint;
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_affinity, 32);

/* The pod is in the mesh: its connections to captured services go to the engine. */
#define MALLA_POD_MESHED 1
/* Some of what it dials is not captured: rows of malla_exclude say what. */
#define MALLA_POD_EXCLUDES 2
/* While no engine serves, what would be captured is reset; else it passes the engine. */
#define MALLA_POD_FAILS_CLOSED 4
/* What others open towards it goes to the engine. */
#define MALLA_POD_INBOUND 8
/* Some of that does not: rows of malla_exclude say what. */
#define MALLA_POD_EXCLUDES_INBOUND 16
/* It insists on mutual TLS, but at ports of which malla_mode says otherwise. */
#define MALLA_POD_STRICT 32
/* Some of its ports have rows of malla_mode. */
#define MALLA_POD_MODES 64
/* It has an identity: what it opens to addresses of malla_peer goes by a tunnel. */
#define MALLA_POD_TUNNELS 128

/* malla_pod: a local pod's address to this. */
struct malla_pod {
	__u32 interface; /* index of the node's side of its veth */
	__u32 flags;
	__u32 identity; /* as its row of malla_ipcache says */
	__u32 set;	/* its row of malla_set; 0: no policy selects it */
	__u32 endpoint; /* its row of malla_share and malla_quota; one a pod, never 0 */
	__u32 netns;	/* the id that the node knows its network namespace by, and 1; 0: none */
};
MALLA_ABI_SIZE(struct malla_pod, 24);

/*
 * malla_exclude, a trie: what passes the engine though it would be captured. 64 bits: a port; 64 +
 * n, with port 0: a block of addresses of n bits (an IPv4 block has 96 more). Outbound: of what the
 * pod dials; inbound: the pod's port, and who dials it.
 */
struct malla_exclude {
	__u32 prefix_bits;
	__u32 endpoint; /* of malla_pod */
	__u16 port_be;
	__u8 is_inbound;
	__u8 pad;
	struct malla_address address;
};
MALLA_ABI_SIZE(struct malla_exclude, 28);

#define MALLA_EXCLUDE_ANY 0
#define MALLA_EXCLUDE_IP6 6 /* a block that is too short to tell the families apart */

/*
 * Who is at an address, as policies see it. Labels' identities begin at 256; a CIDR's may carry
 * MALLA_IDENTITY_LOCAL. Names only: REMOTE_NODE, since another node is an address like others;
 * HEALTH; UNMANAGED, which the agent tells by the address.
 */
enum malla_reserved_identity {
	MALLA_IDENTITY_UNKNOWN = 0, /* in malla_policy: any other IPv4 peer */
	MALLA_IDENTITY_HOST = 1,
	MALLA_IDENTITY_WORLD = 2, /* what no row of malla_ipcache knows */
	MALLA_IDENTITY_UNMANAGED = 3,
	MALLA_IDENTITY_HEALTH = 4,
	MALLA_IDENTITY_REMOTE_NODE = 6,
	MALLA_IDENTITY_WORLD_IPV4 = 9,
	MALLA_IDENTITY_WORLD_IPV6 = 10,
	MALLA_IDENTITY_ANY_IPV6 = 11, /* in malla_policy: any other IPv6 peer */
	/* The node's own addresses inside blocks that policies name: up to LABELS. */
	MALLA_IDENTITY_HOST_BLOCKS = 16,
	MALLA_IDENTITY_LABELS = 256,
	MALLA_IDENTITY_LOCAL = 0x1000000,
};

/* malla_ipcache, a trie: the longest prefix of an address to malla_identity. */
struct malla_prefix {
	__u32 prefix_bits; /* of all 128: an IPv4 prefix has 96 more */
	struct malla_address address;
};
MALLA_ABI_SIZE(struct malla_prefix, 20);

struct malla_identity {
	__u32 identity;
	__u32 flags; /* none yet */
};
MALLA_ABI_SIZE(struct malla_identity, 8);

/* Seen from the pod whose policies are asked. */
enum malla_direction {
	MALLA_INGRESS = 0,
	MALLA_EGRESS = 1,
};

/* malla_set: the number of a set of policies to this. Pods that the same ones select share it. */
#define MALLA_SET_AUDIT 1 /* what it denies by default is counted and passes */

struct malla_set {
	__u8 verdicts[2]; /* where no row of malla_policy matches; by enum malla_direction */
	__u8 flags;
	__u8 pad;
	__u32 policies; /* how many select its pods */
};
MALLA_ABI_SIZE(struct malla_set, 8);

/*
 * malla_policy, a trie. 96 bits: exactly this port; 80 + n: ports that begin with the n bits; 80:
 * any port; 72: any protocol. The rows of a peer's own identity are complete in themselves; only
 * where none of them matches, those of any other peer of its family are asked, then the set.
 */
struct malla_policy_key {
	__u32 prefix_bits;
	__u32 set_be;
	__u32 identity_be;
	__u8 direction; /* enum malla_direction */
	__u8 protocol;
	__u16 port_be; /* of the pod that would receive */
};
MALLA_ABI_SIZE(struct malla_policy_key, 16);

#define MALLA_POLICY_ANY_PROTOCOL_BITS 72
#define MALLA_POLICY_ANY_PORT_BITS     80
#define MALLA_POLICY_EXACT_BITS	       96

enum malla_policy_verdict {
	MALLA_POLICY_ALLOW = 1,
	MALLA_POLICY_DENY = 2,
};

#define MALLA_POLICY_AUDIT 1 /* a DENY that is counted and passes */

struct malla_policy {
	__u32 rule;   /* who decided; a number of the compiler's */
	__u8 verdict; /* enum malla_policy_verdict */
	__u8 flags;
	__u16 pad;
};
MALLA_ABI_SIZE(struct malla_policy, 8);

/*
 * A tuple. malla_flow's key is the tuple with the greater end as source (`flow_key`), so that both
 * directions of a flow have one entry; it says in its flags which of them opened the flow. TCP and
 * UDP have ports; an echo has its identifier at the end that asks and 0 at the other; all else 0.
 */
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
	MALLA_FLOW_CAPTURED = 1,	/* from a pod to a service: the engine receives it */
	MALLA_FLOW_DIALLED = 2,		/* dialled by the engine, which receives the answers */
	MALLA_FLOW_OWN = 3,		/* between its ends; whoever they are */
	MALLA_FLOW_TRANSLATED = 4,	/* to a service's address; `other`: the endpoint */
	MALLA_FLOW_TRANSLATED_BACK = 5, /* the same as its endpoint sees it; `other`: the service */
};

/* Append only. UDP and the others use only OPENING and OPEN. */
enum malla_flow_state {
	MALLA_FLOW_OPENING = 0, /* no answer yet */
	MALLA_FLOW_OPEN = 1,
	MALLA_FLOW_CLOSING = 2, /* one end has sent its FIN */
	MALLA_FLOW_CLOSED = 3,	/* both have, or one has reset it */
};

/* The end that opened the flow is the lesser one: the key's target. */
#define MALLA_FLOW_SWAPPED 1
/* A change of policy cut it; TRANSLATED: its endpoint is gone. */
#define MALLA_FLOW_CUT 2
/* Answered: a packet came back. */
#define MALLA_FLOW_ANSWERED 4
/* FIN seen, from the end that opened the flow and from the other. */
#define MALLA_FLOW_FIN	    8
#define MALLA_FLOW_FIN_BACK 16
/* Policy denies it, and is only being tried. */
#define MALLA_FLOW_AUDITED 32
/* Between two local pods, and begun by one of them: it does not need the node's stack. */
#define MALLA_FLOW_STRAIGHT 64
/* Opened in plain text, by somebody for whom this node does not vouch; or to a pod elsewhere. */
#define MALLA_FLOW_PLAIN 128
/* A tunnel's own connection: what it carries is judged, it is not. */
#define MALLA_FLOW_TUNNEL 256
/* From a pod to a pod elsewhere: the engine receives it, and a tunnel carries it. */
#define MALLA_FLOW_CARRIED 512
/* It was cut because it is plain text, and the pod insists on mutual TLS now. */
#define MALLA_FLOW_BARE 1024
/* Dialled by the engine from the node's address, for somebody whom it has judged itself. */
#define MALLA_FLOW_VOUCHED 2048
/* Between a pod, or the engine, of this node and a pod of another: it does not need the stack. */
#define MALLA_FLOW_ROUTED 4096
/* From outside to a service, which its client goes on knowing instead of the pod. */
#define MALLA_FLOW_SERVED 8192

/* The unit of flows' clocks: 2^30 ns of CLOCK_MONOTONIC, 1.07 s. */
#define MALLA_TICK_SHIFT 30

/* malla_flow: pairs are by direction, of the end that opened the flow first. */
struct malla_flow {
	__u64 packets[2];
	__u64 bytes[2];		/* from the IP header on */
	struct malla_end other; /* of translated flows; what an inbound client dialled; else zero */
	__u32 kind;		/* enum malla_flow_kind */
	__u32 interfaces[2];	/* of the local pods at its ends; 0: no local pod */
	__u32 generation;	/* of the policies that judged it */
	__u32 owner;		/* the endpoint that it is charged to; 0: the node */
	__u32 rule;		/* that admitted it; 0: none */
	__u32 seen_ticks;	/* when its last packet came */
	__u32 timeout_ticks;	/* how long after that it is gone */
	__u16 flags;
	__u8 state; /* enum malla_flow_state */
	__u8 pad;
};
MALLA_ABI_SIZE(struct malla_flow, 88);

/* malla_share: what an endpoint holds of the flow table, by its number. Programs write it. */
struct malla_share {
	__u64 opened;
	__u64 closed;  /* taken out by programs, the evicted included */
	__u64 evicted; /* had to make room for a new one of the same endpoint */
	__u64 hand;    /* the next place in its ring */
};
MALLA_ABI_SIZE(struct malla_share, 32);

/* malla_quota: the same numbers to what the loader says. Flows now: opened - closed - collected. */
struct malla_quota {
	__u64 collected; /* taken out by the loader */
	__u32 flows;	 /* how many the endpoint may hold; 0: none */
	__u32 pad;
};
MALLA_ABI_SIZE(struct malla_quota, 16);

/* malla_ring: the keys of an endpoint's flows in the order in which they were opened. */
struct malla_ring_key {
	__u32 endpoint;
	__u32 place; /* below the endpoint's quota */
};
MALLA_ABI_SIZE(struct malla_ring_key, 8);

/* malla_fragment: what later fragments have in common with their first, to its ports. */
struct malla_fragment_key {
	struct malla_address source;
	struct malla_address target;
	__u32 id_be;
	__u8 protocol;
	__u8 pad[3];
};
MALLA_ABI_SIZE(struct malla_fragment_key, 40);

struct malla_fragment {
	__u16 source_port_be;
	__u16 target_port_be;
};
MALLA_ABI_SIZE(struct malla_fragment, 4);

#define MALLA_NODE_SERVES 1 /* some service is served to those outside */

/* malla_node: one row, of this node's own InternalIPs; zero where it has none of a family. */
struct malla_node {
	struct malla_address source4;
	struct malla_address source6;
	__u32 flags;
	__u32 pad[3];
};
MALLA_ABI_SIZE(struct malla_node, 48);

#define MALLA_SETTING_HOST_ALLOWED 1 /* the node reaches its own pods, whatever policies say */
#define MALLA_SETTING_HBONE	   2 /* the engine serves MALLA_HBONE_PORT of its pods */
#define MALLA_SETTING_ROUTES	   4 /* MALLA_FLOW_ROUTED is to be had */
#define MALLA_SETTING_JOINS	   8 /* another version's programs know flows that these do not */

/* Where nodes meet for each other's pods: a port of each pod's address. Istio's own. */
#define MALLA_HBONE_PORT 15008

/* malla_setting: one row, written by the loader before anything is attached and at each change. */
struct malla_setting {
	__u64 node_cookie;   /* of the node's own network namespace */
	__u64 engine_cookie; /* of the engine's network namespace; 0: none */
	__u64 agent_cgroup;  /* its sockets are never balanced; 0: none */
	__u32 agent_process; /* the same by process id; 0: none */
	__u32 engine;	     /* interface index of the node's side of its veth; 0: no engine */
	__u32 listeners;     /* rows in use of malla_listen */
	__u32 generation;    /* of pods and policies: a flow of another one is judged anew */
	__u32 flags;
	__u8 engine_mac[6]; /* of both ends of that veth */
	__u16 engine_netns; /* its namespace's id in the node's, and one; 0: unknown */
	__u32 flow_sample;  /* one of so many new flows that pass is told of; 0: none */
};
MALLA_ABI_SIZE(struct malla_setting, 56);

#ifndef __bpf__
/* Static text for the hook's or verdict's number; a null pointer for one that does not exist. */
const char *malla_hook_name(__u32 number);
const char *malla_verdict_name(__u32 number);
#endif
