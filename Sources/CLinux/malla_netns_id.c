/* See malla_netns_id.h. */
#define _GNU_SOURCE
#include "malla_netns_id.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* 1: the message is of an interface that has such an id. */
static int describe(struct nlmsghdr *message, struct malla_netns_id *to)
{
	struct ifinfomsg *link = NLMSG_DATA(message);
	int length = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*link)));
	struct rtattr *each = IFLA_RTA(link);
	int32_t id;

	if (message->nlmsg_type != RTM_NEWLINK)
		return 0;
	for (; RTA_OK(each, length); each = RTA_NEXT(each, length)) {
		if (each->rta_type != IFLA_LINK_NETNSID || RTA_PAYLOAD(each) != sizeof(id))
			continue;
		memcpy(&id, RTA_DATA(each), sizeof(id));
		to->interface = (uint32_t)link->ifi_index;
		to->id = (uint32_t)id;
		return id >= 0;
	}
	return 0;
}

/* Reads a dump to its end: at most 8192 messages of 32 KiB, so that it always ends. */
static int read_all(int descriptor, struct malla_netns_id *ids, int max)
{
	static _Thread_local char buffer[32768] __attribute__((aligned(8)));
	struct malla_netns_id found;
	int count = 0;

	for (int turn = 0; turn < 8192; turn++) {
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
			if (!describe(message, &found))
				continue;
			if (count < max)
				ids[count] = found;
			count++;
		}
	}
	return count;
}

int malla_netns_ids(struct malla_netns_id *ids, int max)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} request;
	struct timeval timeout = { .tv_sec = 2 };
	int descriptor, result;

	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = RTM_GETLINK;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request.link.ifi_family = AF_UNSPEC;

	descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (descriptor < 0)
		return -errno;
	setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	if (send(descriptor, &request, sizeof(request), 0) < 0)
		result = -errno;
	else
		result = read_all(descriptor, ids, max);
	close(descriptor);
	return result;
}
