#define _GNU_SOURCE
#include "malla_takeover.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int address(struct sockaddr_un *to, const char *path, size_t length)
{
	if (length >= sizeof(to->sun_path))
		return -ENAMETOOLONG;
	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path, path, length);
	return 0;
}

/* A peer that stops in the middle must not stop us. */
static void limit(int socket)
{
	struct timeval most = {.tv_sec = 5};

	setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
	setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most));
}

int malla_takeover_listen(const char *path, size_t length)
{
	struct sockaddr_un to;
	int error = address(&to, path, length);

	if (error)
		return error;
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	/* The caller holds the agent's locks: what stands there is left from one that was killed.
	 */
	unlink(to.sun_path);
	mode_t before = umask(0177);
	int result = bind(s, (struct sockaddr *)&to, sizeof(to));
	error = errno;
	umask(before);
	if (result < 0 || listen(s, 4) < 0) {
		error = result < 0 ? error : errno;
		close(s);
		return -error;
	}
	return s;
}

int malla_takeover_accept(int listener)
{
	struct ucred peer;
	socklen_t room = sizeof(peer);
	int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (s < 0)
		return -errno;
	if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &room) < 0 || peer.uid != geteuid()) {
		close(s);
		return -EPERM;
	}
	limit(s);
	return s;
}

int malla_takeover_connect(const char *path, size_t length)
{
	struct sockaddr_un to;
	int error = address(&to, path, length);

	if (error)
		return error;
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	limit(s);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0) {
		error = -errno;
		close(s);
		return error;
	}
	return s;
}
