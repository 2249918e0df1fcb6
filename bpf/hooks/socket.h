/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * socket.h - the cgroup hooks: an application calls connect(2), sendto(2), recvmsg(2) or
 * getpeername(2). A service's address becomes a ready endpoint's once per connection (UDP: once per
 * socket, while the endpoints stay), and the application goes on seeing what it dialled.
 * IPv4-mapped addresses of IPv6 sockets need no case of their own: that is how all IPv4 addresses
 * are held here.
 *
 * Captured services are left alone for pods, whose packets are met at their interface; sockets of
 * the node's own namespace have no such interface and are balanced here.
 *
 * Fails open: what is not a known service passes. A service without endpoints is refused at once.
 * Linux 4.17 (connect), 4.18 (sendmsg), 5.2 (recvmsg), 5.8 (getpeername), 6.0 (bpf_set_retval).
 */
#pragma once
#include "lib/count.h"
#include "lib/dialled.h"
#include "lib/endpoint.h"
#include "lib/nat.h"
#include "lib/setting.h"
#include "lib/space.h"
#include "lib/tell.h"
#include "lib/vouch.h"

#define SOCKET_PROCEED 1
#define SOCKET_REFUSE  0

/* The socket that calls, as the hook's helpers tell it. */
struct socket {
	__u64 cookie;
	__u64 namespace_cookie;
	__u64 cgroup;
	__u32 process;
	__u32 choice;	    /* random for connections, else the socket's own */
	__u8 is_connection; /* connect(2); else a datagram of a UDP socket that is not connected */
};

static __always_inline int socket_is_agents(const struct socket *socket,
					    const struct malla_setting *values)
{
	return (values->agent_cgroup && values->agent_cgroup == socket->cgroup) ||
	       (values->agent_process && values->agent_process == socket->process);
}

/* Packets of this socket are met at a pod's interface: it is not in the node's own namespace. */
static __always_inline int socket_is_pods(const struct socket *socket,
					  const struct malla_setting *values)
{
	return socket->namespace_cookie != values->node_cookie;
}

/* The agent connects from the node's own namespace: what its engine dials for others. */
static __always_inline int socket_is_engines(const struct socket *socket)
{
	const struct malla_setting *values = setting();

	return values && socket->is_connection && socket_is_agents(socket, values) &&
	       !socket_is_pods(socket, values);
}

/*
 * Whether a service's source ranges hold the node. What a socket will dial from nobody knows yet:
 * it is taken for the node's own address of the family.
 */
static __always_inline int socket_is_admitted(const struct malla_service *service,
					      const struct malla_end *end)
{
	const struct malla_node *node;
	__u32 first = 0;

	if (!service_is_ranged(service))
		return 1;
	node = bpf_map_lookup_elem(&malla_node, &first);
	return node && service_admits(service, address_is_ip4(&end->address) ? &node->source4
									     : &node->source6);
}

/* Whether the endpoint's answers are known to be those of `service`, which was asked last. */
static __always_inline int socket_has_dialled(__u64 cookie, const struct malla_end *endpoint,
					      const struct malla_end *service)
{
	const struct malla_dialled *dialled = dialled_find(cookie, endpoint);

	return dialled && end_is_equal(&dialled->service, service);
}

/* Writes `end` only when it answers MALLA_VERDICT_BALANCED. */
static __always_inline enum malla_verdict socket_balance(const struct socket *socket,
							 struct malla_end *end)
{
	struct malla_dialled dialled = {
	    .namespace_cookie = socket->namespace_cookie,
	    .service = *end,
	    .process = socket->process,
	};
	struct client client = {
	    .known_as.namespace_cookie = socket->namespace_cookie,
	    .choice = socket->choice,
	    .is_consistent = !socket->is_connection,
	};
	const struct malla_setting *values = setting();
	const struct malla_service *service;

	if (!values)
		return MALLA_VERDICT_PASS;
	service = service_meant(end, !socket_is_pods(socket, values));
	if (!service)
		return MALLA_VERDICT_PASS;
	if (socket_is_agents(socket, values))
		return MALLA_VERDICT_OWN_SOCKET;
	if (socket_is_pods(socket, values)) {
		if (service_is_captured(service))
			return MALLA_VERDICT_LEFT_CAPTURED;
		if (service_is_ranged(service))
			return MALLA_VERDICT_LEFT_RANGED;
	} else if (!socket_is_admitted(service, end)) {
		return MALLA_VERDICT_SOURCE_REFUSED;
	}
	if (!endpoint_choose(service, &service->inside, &client, end))
		return MALLA_VERDICT_NO_ENDPOINT;
	/* Of a socket's datagrams only the first one of a service to an endpoint has something to
	 * tell. */
	if (socket->is_connection || !socket_has_dialled(socket->cookie, end, &dialled.service))
		dialled_record(socket->cookie, end, &dialled);
	return MALLA_VERDICT_BALANCED;
}

/* The way back: `end` is an endpoint. Writes it only when it answers MALLA_VERDICT_RESTORED. */
static __always_inline enum malla_verdict socket_restore(__u64 cookie, struct malla_end *end)
{
	const struct malla_dialled *dialled = dialled_find(cookie, end);

	if (!dialled)
		return MALLA_VERDICT_PASS;
	*end = dialled->service;
	return MALLA_VERDICT_RESTORED;
}

static __always_inline struct malla_end socket_end4(struct bpf_sock_addr *ctx)
{
	struct malla_end end = {.protocol = (__u8)ctx->protocol, .port_be = (__u16)ctx->user_port};

	end.address.words_be[2] = bpf_htonl(0xffff);
	end.address.words_be[3] = ctx->user_ip4;
	return end;
}

static __always_inline void socket_write4(struct bpf_sock_addr *ctx, const struct malla_end *end)
{
	ctx->user_ip4 = end->address.words_be[3];
	ctx->user_port = end->port_be;
}

static __always_inline struct malla_end socket_end6(struct bpf_sock_addr *ctx)
{
	struct malla_end end = {.protocol = (__u8)ctx->protocol, .port_be = (__u16)ctx->user_port};

	end.address.words_be[0] = ctx->user_ip6[0];
	end.address.words_be[1] = ctx->user_ip6[1];
	end.address.words_be[2] = ctx->user_ip6[2];
	end.address.words_be[3] = ctx->user_ip6[3];
	return end;
}

static __always_inline void socket_write6(struct bpf_sock_addr *ctx, const struct malla_end *end)
{
	ctx->user_ip6[0] = end->address.words_be[0];
	ctx->user_ip6[1] = end->address.words_be[1];
	ctx->user_ip6[2] = end->address.words_be[2];
	ctx->user_ip6[3] = end->address.words_be[3];
	ctx->user_port = end->port_be;
}

static __always_inline struct socket socket_of(struct bpf_sock_addr *ctx, int is_connection)
{
	struct socket socket = {
	    .cookie = bpf_get_socket_cookie(ctx),
	    .namespace_cookie = bpf_get_netns_cookie(ctx),
	    .cgroup = bpf_get_current_cgroup_id(),
	    .process = (__u32)(bpf_get_current_pid_tgid() >> 32),
	    .is_connection = is_connection != 0,
	};

	/* 0x9e3779b1 spreads cookies, which count up, over the endpoints. */
	socket.choice = is_connection ? bpf_get_prandom_u32() : (__u32)socket.cookie * 0x9e3779b1u;
	return socket;
}

/*
 * A socket that dials has no address yet: the event's source is unspecified, but for whose
 * interface its packets would come by.
 */
static __always_inline void socket_tell(enum malla_hook hook, enum malla_verdict verdict,
					const struct socket *socket, const struct malla_end *end)
{
	struct packet packet = {.hook = (__u8)hook};

	packet.interface = space_interface(socket->namespace_cookie);
	packet.flow.target = end->address;
	packet.flow.target_port_be = end->port_be;
	packet.flow.protocol = end->protocol;
	if (address_is_ip4(&end->address))
		packet.flow.source.words_be[2] = end->address.words_be[2];
	tell_refused(&packet, verdict);
}

/* What the kernel shall do, and the errno if it is to refuse. */
static __always_inline int socket_answer(enum malla_hook hook, enum malla_verdict verdict,
					 const struct socket *socket, const struct malla_end *end)
{
	count_verdict(hook, verdict);
	if (verdict != MALLA_VERDICT_NO_ENDPOINT && verdict != MALLA_VERDICT_SOURCE_REFUSED)
		return SOCKET_PROCEED;
	socket_tell(hook, verdict, socket, end);
	bpf_set_retval(verdict == MALLA_VERDICT_NO_ENDPOINT ? -ECONNREFUSED : -EPERM);
	return SOCKET_REFUSE;
}

static __always_inline int socket_dial4(struct bpf_sock_addr *ctx, enum malla_hook hook)
{
	struct malla_end end = socket_end4(ctx);
	struct socket socket = socket_of(ctx, hook == MALLA_HOOK_CONNECT4);
	enum malla_verdict verdict = socket_balance(&socket, &end);

	if (socket_is_engines(&socket))
		vouch_for(ctx);
	if (verdict == MALLA_VERDICT_BALANCED)
		socket_write4(ctx, &end);
	return socket_answer(hook, verdict, &socket, &end);
}

static __always_inline int socket_dial6(struct bpf_sock_addr *ctx, enum malla_hook hook)
{
	struct malla_end end = socket_end6(ctx);
	struct socket socket = socket_of(ctx, hook == MALLA_HOOK_CONNECT6);
	enum malla_verdict verdict = socket_balance(&socket, &end);

	if (socket_is_engines(&socket))
		vouch_for(ctx);
	if (verdict == MALLA_VERDICT_BALANCED)
		socket_write6(ctx, &end);
	return socket_answer(hook, verdict, &socket, &end);
}

static __always_inline int socket_show4(struct bpf_sock_addr *ctx, enum malla_hook hook)
{
	struct malla_end end = socket_end4(ctx);
	enum malla_verdict verdict = socket_restore(bpf_get_socket_cookie(ctx), &end);

	if (verdict == MALLA_VERDICT_RESTORED)
		socket_write4(ctx, &end);
	count_verdict(hook, verdict);
	return SOCKET_PROCEED;
}

static __always_inline int socket_show6(struct bpf_sock_addr *ctx, enum malla_hook hook)
{
	struct malla_end end = socket_end6(ctx);
	enum malla_verdict verdict = socket_restore(bpf_get_socket_cookie(ctx), &end);

	if (verdict == MALLA_VERDICT_RESTORED)
		socket_write6(ctx, &end);
	count_verdict(hook, verdict);
	return SOCKET_PROCEED;
}

SEC("cgroup/connect4")
int malla_connect4(struct bpf_sock_addr *ctx)
{
	return socket_dial4(ctx, MALLA_HOOK_CONNECT4);
}

SEC("cgroup/connect6")
int malla_connect6(struct bpf_sock_addr *ctx)
{
	return socket_dial6(ctx, MALLA_HOOK_CONNECT6);
}

SEC("cgroup/sendmsg4")
int malla_sendmsg4(struct bpf_sock_addr *ctx)
{
	return socket_dial4(ctx, MALLA_HOOK_SENDMSG4);
}

SEC("cgroup/sendmsg6")
int malla_sendmsg6(struct bpf_sock_addr *ctx)
{
	return socket_dial6(ctx, MALLA_HOOK_SENDMSG6);
}

SEC("cgroup/recvmsg4")
int malla_recvmsg4(struct bpf_sock_addr *ctx)
{
	return socket_show4(ctx, MALLA_HOOK_RECVMSG4);
}

SEC("cgroup/recvmsg6")
int malla_recvmsg6(struct bpf_sock_addr *ctx)
{
	return socket_show6(ctx, MALLA_HOOK_RECVMSG6);
}

SEC("cgroup/getpeername4")
int malla_peername4(struct bpf_sock_addr *ctx)
{
	return socket_show4(ctx, MALLA_HOOK_GETPEERNAME4);
}

SEC("cgroup/getpeername6")
int malla_peername6(struct bpf_sock_addr *ctx)
{
	return socket_show6(ctx, MALLA_HOOK_GETPEERNAME6);
}
