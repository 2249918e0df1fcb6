/* See malla_netns_id.h. */
#define _GNU_SOURCE
#include "malla_netns_id.h"

#include "malla_dump.h"
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

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

struct room {
	struct malla_netns_id *ids;
	int max, count;
};

static int take(struct nlmsghdr *message, void *argument)
{
	struct malla_netns_id found;
	struct room *room = argument;

	if (!describe(message, &found))
		return 0;
	if (room->count < room->max)
		room->ids[room->count] = found;
	room->count++;
	return 1;
}

int malla_netns_ids(struct malla_netns_id *ids, int max)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} request;
	struct room room = { .ids = ids, .max = max };

	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = RTM_GETLINK;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request.link.ifi_family = AF_UNSPEC;

	return malla_dump(&request.header, 8192, take, &room);
}
