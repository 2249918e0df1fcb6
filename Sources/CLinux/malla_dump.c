/* See malla_dump.h. */
#define _GNU_SOURCE
#include "malla_dump.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int read_all(int descriptor, int turns,
		    int (*take)(struct nlmsghdr *message, void *argument), void *argument)
{
	static _Thread_local char buffer[32768] __attribute__((aligned(8)));
	int count = 0;

	for (int turn = 0; turn < turns; turn++) {
		long received = recv(descriptor, buffer, sizeof(buffer), 0);
		struct nlmsghdr *message = (struct nlmsghdr *)buffer;
		int left = (int)received;

		if (received <= 0)
			return received < 0 ? -errno : count;
		for (; NLMSG_OK(message, (unsigned int)left); message = NLMSG_NEXT(message, left)) {
			if (message->nlmsg_type == NLMSG_DONE)
				return count;
			if (message->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(message))->error;
			count += take(message, argument);
		}
	}
	return count;
}

int malla_dump(const struct nlmsghdr *request, int turns,
	       int (*take)(struct nlmsghdr *message, void *argument), void *argument)
{
	struct timeval timeout = { .tv_sec = 2 };
	int descriptor, result;

	descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (descriptor < 0)
		return -errno;
	setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	if (send(descriptor, request, request->nlmsg_len, 0) < 0)
		result = -errno;
	else
		result = read_all(descriptor, turns, take, argument);
	close(descriptor);
	return result;
}
