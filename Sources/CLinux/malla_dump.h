/* What a dump of rtnetlink says, message by message. For this folder only. */
#pragma once
#include <linux/netlink.h>

/*
 * Asks for a dump and reads it to its end: at most `turns` datagrams of 32 KiB, each within two
 * seconds, so that it always ends. `take` gets every message and answers how much it counts.
 * Answers the sum, or -errno.
 */
int malla_dump(const struct nlmsghdr *request, int turns,
	       int (*take)(struct nlmsghdr *message, void *argument), void *argument);
