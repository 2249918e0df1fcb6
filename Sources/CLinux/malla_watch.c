/* inotify(7) and stat(2); see the header. */
#define _GNU_SOURCE
#include "malla_watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
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
	const uint32_t events = IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE |
				IN_DELETE_SELF | IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF |
				IN_ATTRIB | IN_ONLYDIR;

	int watch = inotify_add_watch(descriptor, path, events);

	return watch >= 0 ? watch : -errno;
}

static void describe(const struct inotify_event *event, struct malla_change *change)
{
	memset(change, 0, sizeof(*change));
	change->watch = event->wd;
	change->is_written = (event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0;
	change->is_begun = (event->mask & IN_MODIFY) != 0;
	change->is_other = !event->len || (event->mask & (IN_ISDIR | IN_Q_OVERFLOW | IN_IGNORED |
							  IN_DELETE_SELF | IN_MOVE_SELF |
							  IN_UNMOUNT)) != 0;
	if (event->len)
		strncpy(change->name, event->name, sizeof(change->name) - 1);
}

int malla_watch_read(int descriptor, struct malla_change *changes)
{
	/* Holds the longest event, and no more of the shortest than the caller has room for. */
	char buffer[MALLA_CHANGES_MAX * sizeof(struct inotify_event)]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t got = read(descriptor, buffer, sizeof(buffer));
	int count = 0;

	_Static_assert(sizeof(buffer) >= sizeof(struct inotify_event) + NAME_MAX + 1,
		       "an event does not fit");
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= got;) {
		const struct inotify_event *event = (const void *)(buffer + at);

		describe(event, &changes[count++]);
		at += (ssize_t)sizeof(*event) + event->len;
	}
	return count;
}

bool malla_watch_is_full(int descriptor, int milliseconds)
{
	struct pollfd waited = { .fd = descriptor, .events = POLLIN };

	return poll(&waited, 1, milliseconds) > 0;
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
