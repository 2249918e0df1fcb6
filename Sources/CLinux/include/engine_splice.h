/* Bytes from socket to socket inside the kernel, by way of a pipe that holds pages, not copies. */
#pragma once
#include <sys/types.h>

/* A non-blocking pipe of about `bytes` (as many as the system allows): its reading end, the other
 * in `write_end`; or -errno. */
int engine_splice_pipe(int bytes, int *write_end);
/* Moves up to `count` bytes; one of both is a pipe's end. 0: `from` has ended; or -errno. */
ssize_t engine_splice(int from, int to, size_t count);
/* Sends with the promise that more follows at once. */
ssize_t engine_send_more(int fd, const void *a, size_t a_count, const void *b, size_t b_count);
/* Takes the promise back: what was held leaves now. */
void engine_push(int fd);
/* Closes it, and tells the peer that what came is not all: by a reset. */
void engine_close_by_reset(int fd);
/* The next close(2) of it is a reset. */
void engine_end_by_reset(int fd);
/* The calling thread gets an error, and no signal, when it writes to what is gone. */
void engine_block_pipe_signal(void);
