#define _GNU_SOURCE
#include "engine_overload.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

uint64_t engine_raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 1024;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return engine_descriptors();
}

uint64_t engine_descriptors(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) ? 1024 : limit.rlim_cur;
}

int64_t engine_unsent(int fd)
{
	int bytes = 0;
	uint8_t state;
	socklen_t room = sizeof(state);

	if (ioctl(fd, SIOCOUTQ, &bytes))
		return -errno;
	/* A reset drops what waits and leaves the count (tcp_write_queue_purge); the state is the
	 * first byte of struct tcp_info. */
	if (bytes > 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &room) == 0 &&
	    state == TCP_CLOSE)
		return 0;
	return bytes;
}

void engine_turn_away(int fd, const void *bytes, size_t count)
{
	char request[2048];

	/* A request that lies unread would turn the close into a reset, which eats the answer. */
	for (int i = 0; i < 4 && recv(fd, request, sizeof(request), MSG_DONTWAIT) > 0; i++)
		;
	send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}
