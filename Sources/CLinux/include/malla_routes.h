/* The node's routes, of every table of the calling thread's network namespace. */
#pragma once
#include <stdint.h>

/* One next hop of a route for unicast. */
struct malla_route {
	uint8_t destination[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint32_t table;
	uint32_t interface;
	uint8_t prefix_bits; /* 0 to 128, of that form */
};

/*
 * Every one, in no order. Answers how many there are, of which at most `max` are written, or
 * -errno. Linux 5.3: a route by a nexthop object names its interfaces as well.
 */
int malla_routes(struct malla_route *routes, int max);
