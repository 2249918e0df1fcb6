/* The engine's network namespace: made, joined by a veth, and routed, by rtnetlink. */
#define _GNU_SOURCE
#include "malla_supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int netns_open(void)
{
	int descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return descriptor < 0 ? -errno : descriptor;
}

int malla_netns_create(void)
{
	int before = netns_open();

	if (before < 0)
		return before;
	int made = unshare(CLONE_NEWNET) < 0 ? -errno : netns_open();
	/* A process that cannot come back must not go on in the wrong place. */
	if (setns(before, CLONE_NEWNET) < 0)
		_exit(71);
	close(before);
	return made;
}

int malla_netns_enter(int descriptor)
{
	int before = netns_open();

	if (before < 0)
		return before;
	if (setns(descriptor, CLONE_NEWNET) < 0) {
		int error = -errno;
		close(before);
		return error;
	}
	return before;
}

int malla_netns_leave(int previous)
{
	int result = setns(previous, CLONE_NEWNET) < 0 ? -errno : 0;

	close(previous);
	return result;
}

/* One request; attributes are appended behind its fixed part. */
struct request {
	struct nlmsghdr header;
	char room[512];
};

static void *begin(struct request *r, uint16_t type, uint16_t flags, size_t fixed)
{
	memset(r, 0, sizeof(*r));
	r->header.nlmsg_type = type;
	r->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	r->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(fixed);
	return NLMSG_DATA(&r->header);
}

/* Appends; with no data it opens a nest, which `end` closes. All fits: names are 15 bytes. */
static struct rtattr *put(struct request *r, uint16_t type, const void *data, size_t count)
{
	struct rtattr *a =
		(struct rtattr *)((char *)&r->header + NLMSG_ALIGN(r->header.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(count);
	if (count)
		memcpy(RTA_DATA(a), data, count);
	r->header.nlmsg_len =
		(uint32_t)(NLMSG_ALIGN(r->header.nlmsg_len) + RTA_ALIGN(a->rta_len));
	return a;
}

static void end(struct request *r, struct rtattr *nest)
{
	nest->rta_len = (uint16_t)((char *)&r->header + r->header.nlmsg_len - (char *)nest);
}

/* Sends it and waits for the kernel's answer. */
static int ask(struct request *r)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[1024];
	} answer;
	int result = 0;
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (s < 0)
		return -errno;
	if (send(s, r, r->header.nlmsg_len, 0) < 0 || recv(s, &answer, sizeof(answer), 0) < 0)
		result = -errno;
	else if (answer.header.nlmsg_type == NLMSG_ERROR)
		result = answer.error.error;
	close(s);
	return result;
}

/* With `arp off` the sender writes its own address: equal ones need no neighbour entries. */
static const unsigned char both_ends[6] = {0x02, 0, 0, 0, 0, 0x01};

int malla_veth_create(const char *node_name, int engine_netns, const char *engine_name)
{
	struct request r;
	struct ifinfomsg *here =
		begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	struct ifinfomsg there = {.ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP};
	uint32_t netns = (uint32_t)engine_netns;

	here->ifi_flags = here->ifi_change = IFF_NOARP;
	put(&r, IFLA_IFNAME, node_name, strlen(node_name) + 1);
	put(&r, IFLA_ADDRESS, both_ends, sizeof(both_ends));
	struct rtattr *kind = put(&r, IFLA_LINKINFO, NULL, 0);
	put(&r, IFLA_INFO_KIND, "veth", 5);
	struct rtattr *data = put(&r, IFLA_INFO_DATA, NULL, 0);
	struct rtattr *peer = put(&r, VETH_INFO_PEER, &there, sizeof(there));
	put(&r, IFLA_IFNAME, engine_name, strlen(engine_name) + 1);
	put(&r, IFLA_ADDRESS, both_ends, sizeof(both_ends));
	put(&r, IFLA_NET_NS_FD, &netns, sizeof(netns));
	end(&r, peer);
	end(&r, data);
	end(&r, kind);
	return ask(&r);
}

int malla_link_remove(const char *name)
{
	struct request r;

	begin(&r, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
	put(&r, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(&r);
}

int malla_link_set_up(const char *name, bool up)
{
	struct request r;
	struct ifinfomsg *link = begin(&r, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));

	link->ifi_index = (int)if_nametoindex(name);
	if (link->ifi_index == 0)
		return -errno;
	link->ifi_change = IFF_UP;
	link->ifi_flags = up ? IFF_UP : 0;
	return ask(&r);
}

int malla_link_is_up(const char *name)
{
	struct ifreq link = {0};
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -errno;
	strncpy(link.ifr_name, name, sizeof(link.ifr_name) - 1);
	int result = ioctl(s, SIOCGIFFLAGS, &link) < 0 ? -errno : (link.ifr_flags & IFF_UP) != 0;
	close(s);
	return result;
}

static int route(int family, uint8_t type, uint8_t table, uint32_t metric, const char *device)
{
	struct request r;
	struct rtmsg *m = begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct rtmsg));

	m->rtm_family = (uint8_t)family;
	m->rtm_table = table;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = type;
	m->rtm_scope = type == RTN_LOCAL     ? RT_SCOPE_HOST
		       : type == RTN_UNICAST ? RT_SCOPE_LINK
					     : RT_SCOPE_UNIVERSE;
	if (device) {
		uint32_t index = if_nametoindex(device);
		put(&r, RTA_OIF, &index, sizeof(index));
	}
	if (metric)
		put(&r, RTA_PRIORITY, &metric, sizeof(metric));
	return ask(&r);
}

static int rule(int family, uint16_t type, uint32_t priority, uint8_t table, const char *device)
{
	struct request r;
	uint16_t flags = type == RTM_NEWRULE ? NLM_F_CREATE | NLM_F_EXCL : 0;
	struct fib_rule_hdr *h = begin(&r, type, flags, sizeof(struct fib_rule_hdr));

	h->family = (uint8_t)family;
	h->table = table;
	h->action = FR_ACT_TO_TBL;
	put(&r, FRA_PRIORITY, &priority, sizeof(priority));
	if (device)
		put(&r, FRA_IIFNAME, device, strlen(device) + 1);
	return ask(&r);
}

/*
 * 1. every address is local to what comes in;
 * 2. what leaves asks the main table first (rule 1), so that nothing we send is delivered here;
 * 3. by default it leaves by the veth; without the veth it is unreachable, else the engine's own
 *    resets would come back and end its connections.
 */
static int engine_route(int step, int family, const char *device)
{
	switch (step) {
	case 0:
		return route(family, RTN_LOCAL, RT_TABLE_LOCAL, 0, "lo");
	case 1:
		return rule(family, RTM_NEWRULE, 1, RT_TABLE_MAIN, "lo");
	case 2:
		return rule(family, RTM_NEWRULE, 2, RT_TABLE_LOCAL, NULL);
	case 3:
		return rule(family, RTM_DELRULE, 0, RT_TABLE_LOCAL, NULL);
	case 4:
		return route(family, RTN_UNREACHABLE, RT_TABLE_MAIN, 0xffffffff, NULL);
	default:
		return route(family, RTN_UNICAST, RT_TABLE_MAIN, 0, device);
	}
}

int malla_engine_mtu(int family, const char *device, uint32_t mtu)
{
	struct request r;
	uint16_t flags = NLM_F_CREATE | NLM_F_REPLACE;
	struct rtmsg *m = begin(&r, RTM_NEWROUTE, flags, sizeof(struct rtmsg));
	uint32_t index = if_nametoindex(device);

	m->rtm_family = (uint8_t)family;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = RTN_UNICAST;
	m->rtm_scope = RT_SCOPE_LINK;
	put(&r, RTA_OIF, &index, sizeof(index));
	if (mtu) {
		struct rtattr *metrics = put(&r, RTA_METRICS, NULL, 0);

		put(&r, RTAX_MTU, &mtu, sizeof(mtu));
		end(&r, metrics);
	}
	return ask(&r);
}

int malla_engine_routes(int family, const char *device)
{
	for (int step = 0; step < 6; step++) {
		int e = engine_route(step, family, device);

		if (e)
			return e;
	}
	return 0;
}

int malla_engine_routes_repair(int family, const char *device)
{
	int missing = 0;

	for (int step = 0; step < 6; step++) {
		int e = engine_route(step, family, device);

		/* There already, or (rule 0) not there, which is as it should be. */
		if (e == -EEXIST || (step == 3 && e == -ENOENT))
			continue;
		if (e)
			return e;
		missing++;
	}
	return missing;
}
