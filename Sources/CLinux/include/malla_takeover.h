/* The door between two supervisors of one node: a SEQPACKET socket beside the agent's, for its
 * owner only. -errno on failure. */
#pragma once
#include <stddef.h>

int malla_takeover_listen(const char *path, size_t length);
/* The next that knocks, if it is of our own user; -EAGAIN: nobody. */
int malla_takeover_accept(int listener);
/* Connects; calls on the socket give up after five seconds. */
int malla_takeover_connect(const char *path, size_t length);
