/* The engine's door to the kernel: each call answers its result, or -errno. */
#pragma once
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* An address as MeshModel holds it: two big-endian halves in host order, IPv4 as ::ffff:a.b.c.d. */
struct engine_address {
	uint64_t high;
	uint64_t low;
	uint16_t port;
};

/* The calls of every request go past libc's wrappers, which ask twice whether the thread is to be
 * cancelled; no thread of ours ever is. */
static inline ssize_t engine_recv(int fd, void *bytes, size_t count)
{
	ssize_t n;
	do
		n = syscall(SYS_recvfrom, fd, bytes, count, 0, NULL, NULL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static inline ssize_t engine_send(int fd, const void *bytes, size_t count)
{
	ssize_t n;
	do
		n = syscall(SYS_sendto, fd, bytes, count, MSG_NOSIGNAL, NULL, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Sends two pieces as one message. */
static inline ssize_t engine_send2(int fd, const void *a, size_t a_count, const void *b,
				   size_t b_count)
{
	struct iovec parts[2] = { { (void *)a, a_count }, { (void *)b, b_count } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n;
	do
		n = syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Whether the peer of an idle connection has sent or closed anything: 1, else 0. */
static inline int engine_is_stale(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return !(n < 0 && (errno == EAGAIN || errno == EINTR));
}

static inline int engine_wait(int set, struct epoll_event *events, int max, int milliseconds)
{
	int n = epoll_wait(set, events, max, milliseconds);
	return n < 0 ? -errno : n;
}

static inline uint64_t engine_token(const struct epoll_event *events, int index)
{
	return events[index].data.u64;
}

static inline uint32_t engine_ready(const struct epoll_event *events, int index)
{
	return events[index].events;
}

/* Asks the processor for a record that is about to be used: all of it, a cache line at a time. */
static inline void engine_fetch(const void *record, size_t size)
{
	const char *bytes = (const char *)record;

	for (size_t at = 0; at < size; at += 64)
		__builtin_prefetch(bytes + at, 1, 3);
}

static inline uint64_t engine_load_acquire(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void engine_store_release(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

int engine_watch(int set, int fd, uint32_t events, uint64_t token);
int engine_unwatch(int set, int fd);
/* What `engine_accept` relies on: never blocks, and what it accepts is without Nagle's delay, and
 * stands still for so long at most. */
int engine_prepare_listener(int fd, unsigned int milliseconds);
/* How long the peer may take nothing of what was sent before the kernel gives the connection up, a
 * closed one's too; 0: as the system is set. */
void engine_limit_standstill(int fd, unsigned int milliseconds);
/* The new descriptor is non-blocking and close-on-exec. */
int engine_accept(int listener, struct engine_address *peer);
int engine_local_address(int fd, struct engine_address *local);
/* A non-blocking stream socket of the family (AF_INET, AF_INET6), without Nagle's delay. */
int engine_socket(int family);
/* Binds to the address, with a port of lowest..highest picked at connect (Linux 6.3). */
int engine_bind_source(int fd, struct engine_address source, uint16_t lowest, uint16_t highest);
/* 0, -EINPROGRESS or another error. */
int engine_connect(int fd, struct engine_address target);
int engine_socket_error(int fd);
/* Enters the network namespace: the calling thread only. */
int engine_enter_namespace(int fd);
/* The caller's name in /proc; at most 15 bytes. */
void engine_name_thread(const char *name);
/* An eventfd; ringing adds one, hearing takes all (and waits if it is blocking). */
int engine_bell(int is_blocking);
void engine_ring(int fd);
void engine_hear(int fd);
/* Waits until the descriptor can be read: 1, or 0 when the time is over. */
int engine_await(int fd, int milliseconds);
/* A non-blocking pipe for descriptors' numbers: the reading end, the writing end in `write_end`. */
int engine_pipe(int *write_end);
/* One number through such a pipe: 1, or 0 when there is none or no room. */
int engine_put_number(int fd, int number);
int engine_get_number(int fd, int *number);
int engine_set_nonblocking(int fd);
