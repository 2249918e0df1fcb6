#define _GNU_SOURCE
#include "engine_splice.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int engine_splice_pipe(int bytes, int *write_end)
{
	int ends[2];

	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	/* Refused beyond fs.pipe-max-size or the user's share: the ordinary 64 KiB serve too. */
	fcntl(ends[1], F_SETPIPE_SZ, bytes);
	*write_end = ends[1];
	return ends[0];
}

ssize_t engine_splice(int from, int to, size_t count)
{
	ssize_t n;

	do
		n = splice(from, NULL, to, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t engine_send_more(int fd, const void *a, size_t a_count, const void *b, size_t b_count)
{
	struct iovec parts[2] = { { (void *)a, a_count }, { (void *)b, b_count } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = b_count ? 2 : 1 };
	ssize_t n;

	do
		n = b_count ? sendmsg(fd, &message, MSG_NOSIGNAL | MSG_MORE)
			    : send(fd, a, a_count, MSG_NOSIGNAL | MSG_MORE);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

void engine_push(int fd)
{
	int one = 1;

	/* tcp(7): setting it pushes what is queued, whatever was promised. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void engine_end_by_reset(int fd)
{
	struct linger none = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

void engine_close_by_reset(int fd)
{
	engine_end_by_reset(fd);
	close(fd);
}

void engine_block_pipe_signal(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
}
