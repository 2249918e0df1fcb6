/* Rare calls of the engine; the frequent ones are inline in engine.h. */
#define _GNU_SOURCE
#include "engine.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* Linux 6.3 */
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static const uint64_t mapped_prefix = 0x0000ffff00000000ull;

static int is_v4(const struct engine_address *a)
{
	return a->high == 0 && a->low >> 32 == 0xffff;
}

static void to_address(const struct sockaddr_storage *from, struct engine_address *to)
{
	memset(to, 0, sizeof(*to));
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)from;

		to->low = mapped_prefix | ntohl(in->sin_addr.s_addr);
		to->port = ntohs(in->sin_port);
	} else if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const void *)from;

		memcpy(&to->high, &in->sin6_addr.s6_addr[0], 8);
		memcpy(&to->low, &in->sin6_addr.s6_addr[8], 8);
		to->high = __builtin_bswap64(to->high);
		to->low = __builtin_bswap64(to->low);
		to->port = ntohs(in->sin6_port);
	}
}

static socklen_t from_address(const struct engine_address *from, struct sockaddr_storage *to)
{
	uint64_t high = __builtin_bswap64(from->high), low = __builtin_bswap64(from->low);

	memset(to, 0, sizeof(*to));
	if (is_v4(from)) {
		struct sockaddr_in *in = (void *)to;

		in->sin_family = AF_INET;
		in->sin_port = htons(from->port);
		in->sin_addr.s_addr = htonl((uint32_t)from->low);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in = (void *)to;

	in->sin6_family = AF_INET6;
	in->sin6_port = htons(from->port);
	memcpy(&in->sin6_addr.s6_addr[0], &high, 8);
	memcpy(&in->sin6_addr.s6_addr[8], &low, 8);
	return sizeof(*in);
}

static int no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

int engine_watch(int set, int fd, uint32_t events, uint64_t token)
{
	struct epoll_event event = { .events = events, .data.u64 = token };

	return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int engine_unwatch(int set, int fd)
{
	return epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL) ? -errno : 0;
}

int engine_accept(int listener, struct engine_address *peer)
{
	struct sockaddr_storage from = { 0 };
	socklen_t size = sizeof(from);
	int fd = accept4(listener, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	to_address(&from, peer);
	return fd;
}

int engine_prepare_listener(int fd, unsigned int milliseconds)
{
	/* tcp(7): accepted sockets have the listener's options. */
	no_delay(fd);
	engine_limit_standstill(fd, milliseconds);
	return engine_set_nonblocking(fd);
}

void engine_limit_standstill(int fd, unsigned int milliseconds)
{
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds));
}

int engine_local_address(int fd, struct engine_address *local)
{
	struct sockaddr_storage name = { 0 };
	socklen_t size = sizeof(name);

	if (getsockname(fd, (struct sockaddr *)&name, &size))
		return -errno;
	to_address(&name, local);
	return 0;
}

int engine_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : no_delay(fd);
}

int engine_bind_source(int fd, struct engine_address source, uint16_t lowest, uint16_t highest)
{
	struct sockaddr_storage from;
	uint32_t range = (uint32_t)highest << 16 | lowest;
	int one = 1;

	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof(range)))
		return -errno;
	source.port = 0;
	socklen_t size = from_address(&source, &from);

	return bind(fd, (struct sockaddr *)&from, size) ? -errno : 0;
}

int engine_connect(int fd, struct engine_address target)
{
	struct sockaddr_storage to;
	socklen_t size = from_address(&target, &to);

	return connect(fd, (struct sockaddr *)&to, size) ? -errno : 0;
}

int engine_socket_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? -errno : -error;
}

int engine_enter_namespace(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}

void engine_name_thread(const char *name)
{
	pthread_setname_np(pthread_self(), name);
}

int engine_bell(int is_blocking)
{
	int fd = eventfd(0, EFD_CLOEXEC | (is_blocking ? 0 : EFD_NONBLOCK));

	return fd < 0 ? -errno : fd;
}

void engine_ring(int fd)
{
	eventfd_write(fd, 1);
}

void engine_hear(int fd)
{
	eventfd_t value;

	eventfd_read(fd, &value);
}

int engine_await(int fd, int milliseconds)
{
	struct pollfd watched = { .fd = fd, .events = POLLIN };

	return poll(&watched, 1, milliseconds) > 0;
}

int engine_pipe(int *write_end)
{
	int ends[2];

	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	*write_end = ends[1];
	return ends[0];
}

int engine_put_number(int fd, int number)
{
	return write(fd, &number, sizeof(number)) == sizeof(number);
}

int engine_get_number(int fd, int *number)
{
	return read(fd, number, sizeof(*number)) == sizeof(*number);
}

int engine_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}
