/* Processes, signals, descriptors over sockets, listening sockets. */
#define _GNU_SOURCE
#include "malla_supervise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DESCRIPTORS_MAX = 253 /* SCM_MAX_FD */ };

int malla_control_pair(int pair[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
}

int malla_control_send(int socket, const void *bytes, size_t count, const int *descriptors,
		       size_t descriptor_count)
{
	char room[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)] = {0};
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (descriptor_count > DESCRIPTORS_MAX)
		return -E2BIG;
	if (descriptor_count) {
		message.msg_control = room;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptor_count);
		struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * descriptor_count);
		memcpy(CMSG_DATA(rights), descriptors, sizeof(int) * descriptor_count);
	}
	ssize_t sent;
	do
		sent = sendmsg(socket, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

ssize_t malla_control_receive(int socket, void *bytes, size_t room, int *descriptors,
			      size_t *descriptor_count)
{
	char control[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
	struct iovec part = {.iov_base = bytes, .iov_len = room};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	size_t most = *descriptor_count, found = 0;
	ssize_t got;

	do
		got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	*descriptor_count = 0;
	if (got < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int one;
			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (found < most)
				descriptors[found++] = one;
			else
				close(one);
		}
	}
	*descriptor_count = found;
	return got;
}

int malla_signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	int descriptor = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return descriptor < 0 ? -errno : descriptor;
}

int malla_signals_next(int descriptor)
{
	struct signalfd_siginfo what;

	if (read(descriptor, &what, sizeof(what)) != sizeof(what))
		return 0;
	/* A terminal that is gone asks for the same orderly end. */
	return what.ssi_signo == SIGHUP ? SIGTERM : (int)what.ssi_signo;
}

int malla_spawn(const char *path, const char *arguments, size_t count, int control)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, defaults;
	pid_t child;
	char **list = calloc(count + 1, sizeof(char *));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		list[i] = (char *)arguments;
		arguments += strlen(arguments) + 1;
	}
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, control, 3);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	int error = posix_spawn(&child, path, &actions, &attributes, list, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	free(list);
	return error ? -error : child;
}

void malla_name_process(const char *name)
{
	prctl(PR_SET_NAME, name);
}

int malla_die_with_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	/* It may have gone before the line above; then nobody would tell. */
	return getppid() == parent ? 0 : -ESRCH;
}

int malla_gain_nothing(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int malla_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2];
	/* The first word holds capabilities 0 to 31, the second the rest. */
	static const uint32_t kept[2] = {1u << CAP_NET_ADMIN,
					 1u << (CAP_BPF - 32) | 1u << (CAP_PERFMON - 32)};

	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		sets[i].effective &= kept[i];
		sets[i].permitted &= kept[i];
		sets[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

int malla_child_gone(pid_t child, int *code, int *signal)
{
	int status;
	pid_t found = waitpid(child, &status, WNOHANG);

	*code = *signal = 0;
	if (found == 0)
		return 0;
	if (found < 0)
		return -errno;
	if (WIFEXITED(status))
		*code = WEXITSTATUS(status);
	else if (WIFSIGNALED(status))
		*signal = WTERMSIG(status);
	else
		return 0;
	return 1;
}

static bool is_v4(const uint8_t address[16])
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	return memcmp(address, prefix, sizeof(prefix)) == 0;
}

/* A bound TCP socket; IPv6 where it is to serve both families, else of the address's own. */
static int bound(const uint8_t address[16], uint16_t port, int flags)
{
	bool v4 = is_v4(address);
	int on = 1, only = flags & MALLA_LISTEN_DUAL ? 0 : 1;
	int family = v4 && !(flags & MALLA_LISTEN_DUAL) ? AF_INET : AF_INET6;
	int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int result;

	if (s < 0 && errno == EAFNOSUPPORT && flags & MALLA_LISTEN_DUAL) {
		/* No IPv6 in this kernel: serve IPv4 alone. */
		family = AF_INET;
		s = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (s < 0)
		return -errno;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (flags & MALLA_LISTEN_REUSEPORT)
		setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (family == AF_INET) {
		struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
		memcpy(&to.sin_addr, address + 12, 4);
		result = bind(s, (struct sockaddr *)&to, sizeof(to));
	} else {
		struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
		memcpy(&to.sin6_addr, address, 16);
		setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
		result = bind(s, (struct sockaddr *)&to, sizeof(to));
	}
	if (result < 0) {
		result = -errno;
		close(s);
		return result;
	}
	return s;
}

int malla_listen(const uint8_t address[16], uint16_t port, int flags, int backlog)
{
	int s = bound(address, port, flags);

	if (s >= 0 && listen(s, backlog) < 0) {
		int error = -errno;
		close(s);
		return error;
	}
	return s;
}

int malla_port_probe(const uint8_t address[16], uint16_t port, int flags)
{
	int s = bound(address, port, flags & ~MALLA_LISTEN_REUSEPORT);

	if (s < 0)
		return s;
	close(s);
	return 0;
}

int malla_local_port(int socket)
{
	struct sockaddr_in6 here;
	socklen_t length = sizeof(here);

	/* The port stands at the same place in both families' records. */
	return getsockname(socket, (struct sockaddr *)&here, &length) < 0 ? -errno
									  : ntohs(here.sin6_port);
}

static int unix_address(struct sockaddr_un *to, const char *path, size_t length)
{
	if (length >= sizeof(to->sun_path))
		return -ENAMETOOLONG;
	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path, path, length);
	/* An abstract name has no NUL at its end, a path has. */
	return (int)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] ? 1 : 0));
}

int malla_unix_listen(const char *path, size_t length, int backlog)
{
	struct sockaddr_un to;
	int size = unix_address(&to, path, length), error;

	if (size < 0)
		return size;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	mode_t before = umask(0177);
	int result = bind(s, (struct sockaddr *)&to, (socklen_t)size);
	error = errno;
	umask(before);
	if (result < 0 || listen(s, backlog) < 0) {
		error = result < 0 ? error : errno;
		close(s);
		return -error;
	}
	return s;
}

int malla_unix_holder(const char *path, size_t length)
{
	struct sockaddr_un to;
	struct ucred peer;
	socklen_t room = sizeof(peer);
	int size = unix_address(&to, path, length), result;

	if (size < 0)
		return size;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	if (connect(s, (struct sockaddr *)&to, (socklen_t)size) < 0)
		/* EAGAIN: it listens and its queue is full, so somebody is there. */
		result = errno == EAGAIN ? 0 : -errno;
	else if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &room) < 0)
		result = -errno;
	else
		result = peer.pid;
	close(s);
	return result;
}

int malla_pinned_word_set(const char *path, size_t row_bytes, size_t offset, uint32_t value)
{
	union bpf_attr open = {0}, row = {0};
	char bytes[256] = {0};
	uint32_t first = 0;
	int result = 0;

	if (row_bytes > sizeof(bytes) || offset + sizeof(value) > row_bytes)
		return -EINVAL;
	open.pathname = (uint64_t)(uintptr_t)path;
	int map = (int)syscall(SYS_bpf, BPF_OBJ_GET, &open, sizeof(open));
	if (map < 0)
		return -errno;
	row.map_fd = (uint32_t)map;
	row.key = (uint64_t)(uintptr_t)&first;
	row.value = (uint64_t)(uintptr_t)bytes;
	if (syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &row, sizeof(row)) < 0) {
		result = -errno;
	} else {
		memcpy(bytes + offset, &value, sizeof(value));
		if (syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &row, sizeof(row)) < 0)
			result = -errno;
	}
	close(map);
	return result;
}

int malla_mount_bpf(const char *path)
{
	return mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0 ? -errno
											    : 0;
}

static bool has_magic(const char *path, unsigned long magic)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == magic;
}

bool malla_bpffs_at(const char *path)
{
	return has_magic(path, BPF_FS_MAGIC);
}

bool malla_cgroup2_at(const char *path)
{
	return has_magic(path, CGROUP2_SUPER_MAGIC);
}
