/* Which network namespaces are behind the interfaces of the calling thread, as it numbers them. */
#pragma once
#include <stdint.h>

struct malla_netns_id {
	uint32_t interface;
	uint32_t id; /* of the namespace in which the other end of the veth is */
};

/*
 * Of every interface whose other end is in another namespace. The kernel gives such a namespace an
 * id when it is first asked (IFLA_LINK_NETNSID), which stays for as long as the namespace does.
 * Answers how many there are, of which at most `max` are written, or -errno.
 */
int malla_netns_ids(struct malla_netns_id *ids, int max);
