/* Files and inotify as MeshConfig needs them: numbers in, numbers out, errors as -errno. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What tells one content of a file from another. Symlinks are followed. */
struct malla_file_mark {
	uint64_t inode;
	uint64_t bytes;
	int64_t modified_ns;
	int64_t changed_ns;
	bool is_directory;
	bool is_regular;
};

/* 0 or -errno. */
int malla_file_mark(const char *path, struct malla_file_mark *mark);

/* A non-blocking inotify descriptor, or -errno. */
int malla_watch_open(void);

/* Watches the directory at `path`; adding it twice is one watch. 0 or -errno. */
int malla_watch_add(int descriptor, const char *path);

/* Waits at most `milliseconds`, then empties the queue. 1: something changed, 0: nothing, or
 * -errno. */
int malla_watch_wait(int descriptor, int milliseconds);

void malla_descriptor_close(int descriptor);
void malla_sleep_ms(int milliseconds);

/* Nanoseconds of the monotonic clock, and of the clock that stamps files. */
int64_t malla_monotonic_ns(void);
int64_t malla_realtime_ns(void);
