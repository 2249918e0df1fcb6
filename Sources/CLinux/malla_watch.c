/* inotify(7) and stat(2); see the header. */
#define _GNU_SOURCE
#include "malla_watch.h"

#include <errno.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t nanoseconds(struct timespec time)
{
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int malla_file_mark(const char *path, struct malla_file_mark *mark)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return -errno;
	mark->inode = status.st_ino;
	mark->bytes = (uint64_t)status.st_size;
	mark->modified_ns = nanoseconds(status.st_mtim);
	mark->changed_ns = nanoseconds(status.st_ctim);
	mark->is_directory = S_ISDIR(status.st_mode);
	mark->is_regular = S_ISREG(status.st_mode);
	return 0;
}

int malla_watch_open(void)
{
	int descriptor = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	return descriptor >= 0 ? descriptor : -errno;
}

int malla_watch_add(int descriptor, const char *path)
{
	const uint32_t events = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_DELETE_SELF |
				IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_ATTRIB |
				IN_ONLYDIR;

	return inotify_add_watch(descriptor, path, events) >= 0 ? 0 : -errno;
}

int malla_watch_wait(int descriptor, int milliseconds)
{
	struct pollfd waited = { .fd = descriptor, .events = POLLIN };
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	int count = poll(&waited, 1, milliseconds);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	if (count == 0)
		return 0;
	/* At most 1000 reads: a writer that never stops cannot hold us here. */
	for (int round = 0; round < 1000; round++) {
		ssize_t got = read(descriptor, buffer, sizeof(buffer));

		if (got <= 0)
			break;
	}
	return 1;
}

void malla_descriptor_close(int descriptor)
{
	close(descriptor);
}

void malla_sleep_ms(int milliseconds)
{
	poll(NULL, 0, milliseconds);
}

int64_t malla_monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return nanoseconds(now);
}

int64_t malla_realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return nanoseconds(now);
}
