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

/* Watches the directory at `path`; adding it twice is one watch. The watch's number or -errno. */
int malla_watch_add(int descriptor, const char *path);

/* Waits at most `milliseconds`. Whether the queue holds anything; leaves it as it is. */
bool malla_watch_is_full(int descriptor, int milliseconds);

/* One event of the queue. */
struct malla_change {
	int watch; /* malla_watch_add's answer */
	bool is_written; /* the file is whole: closed after writing, or renamed to its name */
	bool is_begun;	 /* its contents have changed; `is_written` will follow */
	bool is_other;	 /* of a directory, of the watch itself, or events were lost */
	char name[256];	 /* ends with a zero */
};

/* Events that one read may answer. */
#define MALLA_CHANGES_MAX 64

/* Fills at most MALLA_CHANGES_MAX of `changes` with the next events, and answers how many; 0: the
 * queue is empty; or -errno. Never waits. */
int malla_watch_read(int descriptor, struct malla_change *changes);

void malla_descriptor_close(int descriptor);
void malla_sleep_ms(int milliseconds);

/* Nanoseconds of the monotonic clock, and of the clock that stamps files. */
int64_t malla_monotonic_ns(void);
int64_t malla_realtime_ns(void);
