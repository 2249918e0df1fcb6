/* malla_examine.c - see the header. */
#define _GNU_SOURCE
#include "malla_examine.h"

#include "malla_dump.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	int result = (int)syscall(__NR_bpf, command, attr, sizeof(*attr));

	return result < 0 ? -errno : result;
}

int malla_examine_program(uint32_t type, uint32_t attach_type)
{
	/* r0 = 1; exit: a return value that every type we ask for allows. */
	const struct bpf_insn instructions[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr;
	int descriptor;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = type;
	attr.expected_attach_type = attach_type;
	attr.insns = (uintptr_t)instructions;
	attr.insn_cnt = 2;
	attr.license = (uintptr_t) "Dual BSD/GPL";
	strcpy(attr.prog_name, "malla_examine");
	descriptor = bpf(BPF_PROG_LOAD, &attr);
	if (descriptor < 0)
		return descriptor;
	close(descriptor);
	return 0;
}

int malla_examine_tcx(uint32_t interface, uint32_t attach_type, uint32_t *ids, uint32_t *count)
{
	union bpf_attr attr;
	int result;

	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = interface; /* a union with target_ifindex since Linux 6.6 */
	attr.query.attach_type = attach_type;
	attr.query.prog_ids = (uintptr_t)ids;
	attr.query.prog_cnt = *count;
	result = bpf(BPF_PROG_QUERY, &attr);
	*count = result == 0 ? attr.query.prog_cnt : 0;
	return result;
}

int malla_examine_program_name(uint32_t id, char *name, size_t bytes)
{
	struct bpf_prog_info info;
	union bpf_attr attr;
	int descriptor, result;

	memset(&attr, 0, sizeof(attr));
	attr.prog_id = id;
	descriptor = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
	if (descriptor < 0)
		return descriptor;

	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)descriptor;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uintptr_t)&info;
	result = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	close(descriptor);
	if (result < 0)
		return result;
	strncpy(name, info.name, bytes - 1);
	name[bytes - 1] = 0;
	return 0;
}

/* Finds an attribute in a run of them; NULL if it is not there. */
static struct rtattr *attribute(struct rtattr *first, int bytes, unsigned short type)
{
	for (; RTA_OK(first, bytes); first = RTA_NEXT(first, bytes))
		if ((first->rta_type & NLA_TYPE_MASK) == type)
			return first;
	return NULL;
}

static void copy_text(const struct rtattr *from, char *name, size_t bytes)
{
	size_t length = RTA_PAYLOAD(from);

	if (length > bytes - 1)
		length = bytes - 1;
	memcpy(name, RTA_DATA(from), length);
	name[length] = 0;
}

/* Where the first filter's name goes. */
struct label {
	char *name;
	size_t bytes;
};

/* A filter is told of by RTM_NEWTFILTER with a handle; chains and priorities alone have none. */
static int is_filter(struct nlmsghdr *message, void *argument)
{
	const struct label *label = argument;
	char *name = label->name;
	size_t bytes = label->bytes;
	struct tcmsg *filter = NLMSG_DATA(message);
	int length = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*filter)));
	struct rtattr *first = TCA_RTA(filter), *kind, *options, *own = NULL;

	if (message->nlmsg_type != RTM_NEWTFILTER || filter->tcm_handle == 0)
		return 0;
	kind = attribute(first, length, TCA_KIND);
	options = attribute(first, length, TCA_OPTIONS);
	if (options)
		own = attribute(RTA_DATA(options), (int)RTA_PAYLOAD(options), TCA_BPF_NAME);
	if (name[0] == 0 && own)
		copy_text(own, name, bytes);
	else if (name[0] == 0 && kind)
		copy_text(kind, name, bytes);
	return 1;
}

int malla_examine_filters(uint32_t interface, int is_egress, char *name, size_t bytes)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg filter;
	} request;
	struct label label = { .name = name, .bytes = bytes };

	name[0] = 0;
	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = RTM_GETTFILTER;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request.filter.tcm_family = AF_UNSPEC;
	request.filter.tcm_ifindex = (int)interface;
	request.filter.tcm_parent =
		TC_H_MAKE(TC_H_CLSACT, is_egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS);
	return malla_dump(&request.header, 1024, is_filter, &label);
}

int malla_examine_port(uint16_t port, int is_loopback)
{
	struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1, result;
	int descriptor = socket(is_loopback ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (descriptor < 0)
		return -errno;
	loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (is_loopback)
		result = bind(descriptor, (struct sockaddr *)&loopback, sizeof(loopback));
	else
		result = bind(descriptor, (struct sockaddr *)&any, sizeof(any));
	/* With SO_REUSEADDR a second bind may succeed; only one socket may listen. */
	if (result == 0)
		result = listen(descriptor, 1);
	result = result < 0 ? -errno : 0;
	close(descriptor);
	return result;
}

int malla_examine_connect(const char *path, int timeout_milliseconds)
{
	struct timeval timeout = {
		.tv_sec = timeout_milliseconds / 1000,
		.tv_usec = timeout_milliseconds % 1000 * 1000,
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int descriptor, result;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (descriptor < 0)
		return -errno;
	setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(descriptor, (struct sockaddr *)&address, sizeof(address)) < 0) {
		result = -errno;
		close(descriptor);
		return result;
	}
	return descriptor;
}

int malla_examine_send(int descriptor, const void *bytes, size_t count)
{
	const char *next = bytes;

	while (count > 0) {
		long sent = send(descriptor, next, count, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		next += sent;
		count -= (size_t)sent;
	}
	return 0;
}

long malla_examine_receive(int descriptor, void *bytes, size_t count)
{
	long received;

	do
		received = recv(descriptor, bytes, count, 0);
	while (received < 0 && errno == EINTR);
	return received < 0 ? -errno : received;
}

void malla_examine_close(int descriptor)
{
	close(descriptor);
}
