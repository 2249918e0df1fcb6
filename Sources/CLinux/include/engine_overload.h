/* What an overloaded engine asks of the system. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Raises the limit of descriptors to what the system allows; answers what holds then. */
uint64_t engine_raise_descriptors(void);
/* The limit of descriptors that holds now. */
uint64_t engine_descriptors(void);
/* Bytes sent that the peer has not taken and still may; or -errno. */
int64_t engine_unsent(int fd);
/* Reads away what has come, says the bytes, and closes: for a client that is turned away at once. */
void engine_turn_away(int fd, const void *bytes, size_t count);
