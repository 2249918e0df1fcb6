/* See malla_diagnose.h. */
#define _GNU_SOURCE
#include "malla_diagnose.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* What is closed at most for one end and call: a bound for the array below. */
#define CLOSED_MAX 4096

int malla_diagnose_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	/* The kernel answers at once; this bounds what should never happen. */
	struct timeval patience = {.tv_sec = 1};

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

int malla_diagnose_open_at(const char *path)
{
	int theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (theirs < 0)
		return -errno;
	int ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (ours < 0) {
		int error = -errno;
		close(theirs);
		return error;
	}
	int fd = setns(theirs, CLONE_NEWNET) ? -errno : malla_diagnose_open();
	/* A process that cannot come back must not go on in the wrong place. */
	if (setns(ours, CLONE_NEWNET))
		_exit(71);
	close(theirs);
	close(ours);
	return fd;
}

uint64_t malla_diagnose_namespace(int descriptor)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);

	return getsockopt(descriptor, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes) ? 0 : cookie;
}

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

static int ask(int fd, uint16_t type, uint16_t flags, const struct inet_diag_req_v2 *body)
{
	struct request request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = type,
			.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
		},
		.body = *body,
	};

	return send(fd, &request, sizeof(request), 0) < 0 ? -errno : 0;
}

/* 16 bytes of what the socket is connected to, IPv4 as IPv4-mapped. */
static void target_of(const struct inet_diag_msg *one, uint8_t address[16])
{
	if (one->idiag_family == AF_INET6) {
		memcpy(address, one->id.idiag_dst, 16);
		return;
	}
	memset(address, 0, 10);
	address[10] = address[11] = 0xff;
	memcpy(address + 12, one->id.idiag_dst, 4);
}

static bool is_among(const struct inet_diag_msg *one, const uint64_t *cookies, size_t count)
{
	uint64_t cookie = (uint64_t)one->id.idiag_cookie[1] << 32 | one->id.idiag_cookie[0];

	for (size_t i = 0; i < count; i++)
		if (cookies[i] == cookie)
			return true;
	return false;
}

/* What is looked for, and the requests that close what was found. */
struct search {
	const uint8_t *address;
	const uint64_t *cookies;
	size_t count;
	struct inet_diag_req_v2 found[CLOSED_MAX];
	int found_count;
};

static void take(struct search *search, const struct inet_diag_msg *one, uint8_t protocol)
{
	uint8_t address[16];

	target_of(one, address);
	if (memcmp(address, search->address, 16) || search->found_count == CLOSED_MAX ||
	    !is_among(one, search->cookies, search->count))
		return;
	search->found[search->found_count++] = (struct inet_diag_req_v2){
		.sdiag_family = one->idiag_family,
		.sdiag_protocol = protocol,
		.idiag_states = (uint32_t)-1,
		.id = one->id,
	};
}

/* Reads one dump to its end; 0 or -errno. */
static int read_dump(int fd, struct search *search, uint8_t protocol)
{
	char room[32768] __attribute__((aligned(NLMSG_ALIGNTO)));

	for (;;) {
		ssize_t length = recv(fd, room, sizeof(room), 0);
		if (length < 0)
			return -errno;
		int left = (int)length;
		for (struct nlmsghdr *h = (struct nlmsghdr *)room; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
			take(search, NLMSG_DATA(h), protocol);
		}
	}
}

static int destroy(int fd, const struct inet_diag_req_v2 *one)
{
	char room[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	int error = ask(fd, SOCK_DESTROY, NLM_F_ACK, one);

	if (error)
		return error;
	if (recv(fd, room, sizeof(room), 0) < 0)
		return -errno;
	struct nlmsghdr *h = (struct nlmsghdr *)room;
	return h->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(h))->error : 0;
}

int malla_diagnose_close(int descriptor, uint8_t protocol, const uint8_t address[16],
			 uint16_t port, const uint64_t *cookies, size_t count)
{
	/* An IPv6 socket may be connected to an IPv4 address. */
	static const uint8_t families[] = {AF_INET, AF_INET6};
	struct search search = {.address = address, .cookies = cookies, .count = count};
	int closed = 0;

	for (size_t i = 0; i < 2; i++) {
		struct inet_diag_req_v2 body = {
			.sdiag_family = families[i],
			.sdiag_protocol = protocol,
			.idiag_states = (uint32_t)-1,
			.id.idiag_dport = htons(port),
		};
		int error = ask(descriptor, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &body);
		if (!error)
			error = read_dump(descriptor, &search, protocol);
		if (error)
			return error;
	}
	for (int i = 0; i < search.found_count; i++) {
		int error = destroy(descriptor, &search.found[i]);
		/* It was closed meanwhile. */
		if (error == -ENOENT)
			continue;
		if (error)
			return error;
		closed++;
	}
	return closed;
}
