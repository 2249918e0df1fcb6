/* See malla_routes.h. */
#define _GNU_SOURCE
#include "malla_routes.h"

#include "malla_dump.h"
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

struct room {
	struct malla_route *routes;
	int max, count;
};

static void put(struct room *room, const struct malla_route *route, int interface)
{
	if (interface <= 0)
		return;
	if (room->count < room->max) {
		room->routes[room->count] = *route;
		room->routes[room->count].interface = (uint32_t)interface;
	}
	room->count++;
}

static uint32_t word(const struct rtattr *attribute)
{
	uint32_t value = 0;

	if (RTA_PAYLOAD(attribute) >= sizeof(value))
		memcpy(&value, RTA_DATA(attribute), sizeof(value));
	return value;
}

/* The next hops that a RTA_MULTIPATH holds. */
static void put_each(struct room *room, const struct malla_route *route,
		     const struct rtattr *attribute)
{
	struct rtnexthop *hop = RTA_DATA(attribute);
	int length = (int)RTA_PAYLOAD(attribute);

	while (RTNH_OK(hop, length)) {
		put(room, route, hop->rtnh_ifindex);
		length -= (int)RTNH_ALIGN(hop->rtnh_len);
		hop = RTNH_NEXT(hop);
	}
}

static int take(struct nlmsghdr *message, void *argument)
{
	struct rtmsg *from = NLMSG_DATA(message);
	int length = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*from)));
	struct rtattr *each = RTM_RTA(from), *hops = 0;
	struct malla_route route;
	int is_ip4 = from->rtm_family == AF_INET;
	int interface = 0;

	if (message->nlmsg_type != RTM_NEWROUTE || from->rtm_type != RTN_UNICAST ||
	    from->rtm_flags & RTM_F_CLONED)
		return 0;
	memset(&route, 0, sizeof(route));
	route.prefix_bits = (uint8_t)(from->rtm_dst_len + (is_ip4 ? 96 : 0));
	route.table = from->rtm_table;
	if (is_ip4)
		route.destination[10] = route.destination[11] = 0xff;
	for (; RTA_OK(each, length); each = RTA_NEXT(each, length)) {
		if (each->rta_type == RTA_DST && RTA_PAYLOAD(each) == (is_ip4 ? 4 : 16))
			memcpy(route.destination + (is_ip4 ? 12 : 0), RTA_DATA(each),
			       RTA_PAYLOAD(each));
		else if (each->rta_type == RTA_OIF)
			interface = (int)word(each);
		else if (each->rta_type == RTA_TABLE)
			route.table = word(each);
		else if (each->rta_type == RTA_MULTIPATH)
			hops = each;
	}
	put(argument, &route, interface);
	if (hops)
		put_each(argument, &route, hops);
	return 0;
}

static int dump(unsigned char family, struct room *room)
{
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
	} request;

	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = RTM_GETROUTE;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request.route.rtm_family = family;
	return malla_dump(&request.header, 65536, take, room);
}

int malla_routes(struct malla_route *routes, int max)
{
	struct room room = { .routes = routes, .max = max };
	int result = dump(AF_INET, &room);

	/* A kernel without IPv6 has no routes of it. */
	if (result >= 0)
		dump(AF_INET6, &room);
	return result < 0 ? result : room.count;
}
