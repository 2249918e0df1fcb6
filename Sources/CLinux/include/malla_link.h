/* The interfaces of the calling thread's network namespace, and that namespace's cookie. */
#pragma once
#include <stdint.h>

struct malla_link {
	uint32_t index;
	uint16_t type;     /* ARPHRD_*: 1 has an Ethernet header */
	uint8_t mac[6];    /* zero where there is none */
	uint8_t is_loopback;
	char name[16];
};

struct malla_link_address {
	uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint32_t index;
};

/* Both answer how many there are, of which at most `max` are written, or -errno. */
int malla_links(struct malla_link *links, int max);
int malla_link_addresses(struct malla_link_address *addresses, int max);

/*
 * A socket, non-blocking, that is readable when an interface of the calling thread's namespace came,
 * went or changed (RTNLGRP_LINK); or -errno.
 */
int malla_link_watch(void);

/* Takes all that it was told: 1 if that was anything, or was lost; else 0. */
int malla_link_watch_take(int descriptor);

/* Of the interface with that name, bytes; or -errno. */
int malla_link_mtu(const char *name);

/* SO_NETNS_COOKIE (Linux 5.14), or 0 where the kernel refuses it. */
uint64_t malla_netns_cookie(void);

/* The same of the namespace that a socket belongs to. */
uint64_t malla_socket_netns_cookie(int descriptor);
