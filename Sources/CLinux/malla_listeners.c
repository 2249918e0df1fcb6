/* See malla_listeners.h. */
#include "malla_listeners.h"

#include "malla_diagnose.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_SYN_RECV 3
#define STATE_LISTEN 10

static const uint8_t any[16];

static bool is_v4(const uint8_t address[16])
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	return memcmp(address, prefix, sizeof(prefix)) == 0;
}

static bool is_only_v6(const struct nlmsghdr *header, const struct inet_diag_msg *one)
{
	int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*one)));

	for (const struct rtattr *a = (const void *)(one + 1); RTA_OK(a, left);
	     a = RTA_NEXT(a, left))
		if (a->rta_type == INET_DIAG_SKV6ONLY)
			return *(const uint8_t *)RTA_DATA(a);
	return false;
}

/* Whether both sockets would take a connection to one address. */
static bool overlaps(const struct nlmsghdr *header, const struct inet_diag_msg *one,
		     const uint8_t address[16], bool is_dual)
{
	const void *theirs = one->id.idiag_src;

	if (is_dual)
		return true;
	if (one->idiag_family == AF_INET)
		return is_v4(address) &&
		       (!memcmp(theirs, any, 4) || !memcmp(address + 12, any, 4) ||
			!memcmp(theirs, address + 12, 4));
	if (is_v4(address))
		return !memcmp(theirs, any, 16) && !is_only_v6(header, one);
	return !memcmp(theirs, any, 16) || !memcmp(address, any, 16) ||
	       !memcmp(theirs, address, 16);
}

static bool is_ours(const struct inet_diag_msg *one, const int *ours, size_t count)
{
	struct stat status;

	for (size_t i = 0; i < count; i++)
		if (fstat(ours[i], &status) == 0 && (uint32_t)status.st_ino == one->idiag_inode)
			return true;
	return false;
}

static int ask(int fd, uint8_t family, uint16_t port, uint8_t state)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
		.body = {
			.sdiag_family = family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = 1U << state,
			.id.idiag_sport = htons(port),
		},
	};

	return send(fd, &request, sizeof(request), 0) < 0 ? -1 : 0;
}

/* What is looked for among the sockets of a port. */
struct wanted {
	const uint8_t *address;
	uint16_t port;
	uint8_t state;
	bool is_dual;
	const int *ours;
	size_t count;
};

static int find(const struct wanted *wanted)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	char room[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	int fd = malla_diagnose_open(), found = 0;

	if (fd < 0)
		return 0;
	for (size_t i = 0; i < 2; i++) {
		bool is_done = ask(fd, families[i], wanted->port, wanted->state) != 0;
		while (!is_done) {
			ssize_t length = recv(fd, room, sizeof(room), 0);
			int left = (int)length;
			is_done = length <= 0;
			for (struct nlmsghdr *h = (struct nlmsghdr *)room;
			     !is_done && NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
				const struct inet_diag_msg *one = NLMSG_DATA(h);

				is_done = h->nlmsg_type == NLMSG_DONE ||
					  h->nlmsg_type == NLMSG_ERROR;
				if (!is_done && one->id.idiag_sport == htons(wanted->port) &&
				    overlaps(h, one, wanted->address, wanted->is_dual) &&
				    !is_ours(one, wanted->ours, wanted->count))
					found = 1;
			}
		}
	}
	close(fd);
	return found;
}

int malla_port_has_other(const uint8_t address[16], uint16_t port, bool is_dual, const int *ours,
			 size_t count)
{
	return find(&(struct wanted){.address = address,
				     .port = port,
				     .state = STATE_LISTEN,
				     .is_dual = is_dual,
				     .ours = ours,
				     .count = count});
}

int malla_port_has_handshake(const uint8_t address[16], uint16_t port, bool is_dual)
{
	return find(&(struct wanted){
		.address = address, .port = port, .state = STATE_SYN_RECV, .is_dual = is_dual});
}

int malla_listener_hush(int listener)
{
	/* What a socket's filter sees begins with TCP's header: its flags are byte 13. Connections
	 * inherit the filter, and never see a SYN without an ACK. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0
		       ? -errno
		       : 0;
}

int malla_listener_unhush(int listener)
{
	int none = 0;

	return setsockopt(listener, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)) < 0 ? -errno
											   : 0;
}
