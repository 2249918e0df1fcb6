/* See malla_link.h. getifaddrs(3) asks rtnetlink, so a namespace entered by setns(2) is the one
 * seen. */
#define _GNU_SOURCE
#include "malla_link.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* 1: it is an interface, not one of its IP addresses. */
static int describe(const struct ifaddrs *each, struct malla_link *to)
{
	const struct sockaddr_ll *link = (const void *)each->ifa_addr;

	memset(to, 0, sizeof(*to));
	to->is_loopback = (each->ifa_flags & IFF_LOOPBACK) != 0;
	strncpy(to->name, each->ifa_name, sizeof(to->name) - 1);
	if (link && link->sll_family == AF_PACKET) {
		to->index = (uint32_t)link->sll_ifindex;
		to->type = link->sll_hatype;
		if (link->sll_halen == 6)
			memcpy(to->mac, link->sll_addr, 6);
		return 1;
	}
	if (link)
		return 0;
	/* One without an address of the link layer (TUN, WireGuard): glibc leaves all of it out. */
	struct ifreq request = {0};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return 0;
	memcpy(request.ifr_name, to->name, sizeof(request.ifr_name));
	if (ioctl(s, SIOCGIFHWADDR, &request) == 0)
		to->type = request.ifr_hwaddr.sa_family;
	close(s);
	to->index = if_nametoindex(to->name);
	return to->index != 0 && to->type != 0;
}

int malla_links(struct malla_link *links, int max)
{
	struct ifaddrs *all, *each;
	int count = 0;

	if (getifaddrs(&all))
		return -errno;
	for (each = all; each; each = each->ifa_next) {
		struct malla_link link;

		if (!describe(each, &link))
			continue;
		if (count < max)
			links[count] = link;
		count++;
	}
	freeifaddrs(all);
	return count;
}

int malla_link_mtu(const char *name)
{
	struct ifreq link = {0};
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result;

	if (s < 0)
		return -errno;
	strncpy(link.ifr_name, name, sizeof(link.ifr_name) - 1);
	result = ioctl(s, SIOCGIFMTU, &link) < 0 ? -errno : link.ifr_mtu;
	close(s);
	return result;
}

static int address_of(const struct sockaddr *from, uint8_t to[16])
{
	if (from && from->sa_family == AF_INET6) {
		memcpy(to, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
		return 1;
	}
	if (from && from->sa_family == AF_INET) {
		memset(to, 0, 10);
		to[10] = to[11] = 0xff;
		memcpy(to + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
		return 1;
	}
	return 0;
}

int malla_link_addresses(struct malla_link_address *addresses, int max)
{
	struct ifaddrs *all, *each;
	int count = 0;

	if (getifaddrs(&all))
		return -errno;
	for (each = all; each; each = each->ifa_next) {
		uint8_t address[16];

		if (!address_of(each->ifa_addr, address))
			continue;
		if (count < max) {
			memcpy(addresses[count].address, address, 16);
			addresses[count].index = if_nametoindex(each->ifa_name);
		}
		count++;
	}
	freeifaddrs(all);
	return count;
}

int malla_link_watch(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (s < 0)
		return -errno;
	if (bind(s, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;

		close(s);
		return -error;
	}
	return s;
}

int malla_link_watch_take(int descriptor)
{
	char byte;
	int taken = 0;

	/* What does not fit into the byte is cut off; a lost message is an error, and the last. */
	for (int turn = 0; turn < 65536; turn++) {
		long result = recv(descriptor, &byte, sizeof(byte), MSG_TRUNC);

		if (result < 0 && errno != ENOBUFS)
			break;
		taken = 1;
	}
	return taken;
}

uint64_t malla_socket_netns_cookie(int descriptor)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);

	if (getsockopt(descriptor, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes))
		return 0;
	return cookie;
}

uint64_t malla_netns_cookie(void)
{
	int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;

	if (descriptor < 0)
		return 0;
	cookie = malla_socket_netns_cookie(descriptor);
	close(descriptor);
	return cookie;
}
