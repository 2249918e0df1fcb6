/* A load of so many requests a second over kept connections, whatever the server does: a request
 * that finds no free connection waits, and its time runs from the moment when it was due.
 *
 *     pace RATE CONNECTIONS SECONDS ADDRESS PORT PATH
 *
 * RATE 0: every connection asks again as soon as it was answered. Prints one line of figures at the
 * end, or earlier on SIGINT or SIGTERM; exits with 1 where a request failed. A connection that the
 * server ends between requests, or says it will end, is dialled anew and is no failure. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 20000, TIMES_MAX = 1 << 24, HEAD_MAX = 8192 };

struct connection {
	int fd;
	int is_busy;
	int is_idle;
	int is_listed; /* in `idle`, where one that is not idle any more is skipped */
	int is_connecting;
	int closes;
	int in_body;
	uint64_t due;
	uint64_t left;
	size_t used;
	char head[HEAD_MAX];
};

static struct connection *all;
/* Who has waited longest asks next, so that all of them are used. */
static int *idle;
static int idle_first, idle_count, count, set;
static uint64_t *waiting;
static uint64_t waiting_first, waiting_end;
static uint32_t *times;
static uint64_t done, failed, refused, dialled;
static char request[1024];
static size_t request_bytes;
static struct sockaddr_storage target;
static socklen_t target_bytes;
static volatile sig_atomic_t is_over;
static int floods;

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void stop(int number)
{
	(void)number;
	is_over = 1;
}

static void dial(int index)
{
	struct connection *c = &all[index];
	struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.u32 = index}};
	int one = 1;

	dialled++;
	c->fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->is_connecting = 1;
	c->is_busy = c->closes = c->in_body = 0;
	c->used = 0;
	epoll_ctl(set, EPOLL_CTL_ADD, c->fd, &event);
	connect(c->fd, (struct sockaddr *)&target, target_bytes);
}

static void redial(int index, int is_failure)
{
	struct connection *c = &all[index];

	failed += (uint64_t)is_failure;
	c->is_idle = 0;
	close(c->fd);
	dial(index);
}

/* Its first bytes fit into an empty socket always. */
static void ask(int index, uint64_t due)
{
	struct connection *c = &all[index];

	c->is_busy = 1;
	c->in_body = 0;
	c->used = 0;
	c->due = due;
	if (send(c->fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes)
		redial(index, 1);
}

static void list(int index)
{
	all[index].is_idle = 1;
	if (all[index].is_listed)
		return;
	all[index].is_listed = 1;
	idle[(idle_first + idle_count++) % count] = index;
}

/* -1: all are busy. */
static int take(void)
{
	while (idle_count) {
		int index = idle[idle_first];

		idle_first = (idle_first + 1) % count;
		idle_count--;
		all[index].is_listed = 0;
		if (!all[index].is_idle)
			continue;
		all[index].is_idle = 0;
		return index;
	}
	return -1;
}

static void be_idle(int index)
{
	all[index].is_busy = 0;
	if (waiting_first < waiting_end)
		ask(index, waiting[waiting_first++ % TIMES_MAX]);
	else if (floods)
		ask(index, now());
	else
		list(index);
}

static void finish(int index)
{
	struct connection *c = &all[index];

	if (done < TIMES_MAX)
		times[done] = (uint32_t)((now() - c->due) / 1000);
	done++;
	c->is_busy = 0;
	if (c->closes)
		redial(index, 0);
	else
		be_idle(index);
}

/* The head has all come: 1 and the body's length, else 0. */
static int read_head(struct connection *c)
{
	char *end = memmem(c->head, c->used, "\r\n\r\n", 4), *length;
	size_t head;

	if (!end)
		return 0;
	end[2] = 0;
	head = (size_t)(end - c->head) + 4;
	if (strncmp(c->head, "HTTP/1.1 2", 10))
		refused++;
	c->closes = !!strcasestr(c->head, "\nconnection: close");
	length = strcasestr(c->head, "\ncontent-length:");
	c->left = length ? strtoull(length + 16, NULL, 10) : 0;
	c->in_body = 1;
	c->left -= c->used - head < c->left ? c->used - head : c->left;
	return 1;
}

static void receive(int index)
{
	static char body[256 * 1024];
	struct connection *c = &all[index];

	for (;;) {
		char *to = c->in_body ? body : c->head + c->used;
		size_t room = c->in_body ? sizeof(body) : sizeof(c->head) - 1 - c->used;
		ssize_t n = recv(c->fd, to, room, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || !c->is_busy) {
			redial(index, c->is_busy);
			return;
		}
		if (!c->in_body) {
			c->used += (size_t)n;
			c->head[c->used] = 0;
			if (!read_head(c))
				continue;
		} else {
			c->left -= (uint64_t)n < c->left ? (uint64_t)n : c->left;
		}
		if (!c->left) {
			finish(index);
			return;
		}
	}
}

static void serve(const struct epoll_event *event)
{
	int index = (int)event->data.u32;
	struct connection *c = &all[index];
	int error = 0;
	socklen_t size = sizeof(error);

	if (c->is_connecting) {
		if (!(event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			redial(index, 1);
			return;
		}
		c->is_connecting = 0;
		be_idle(index);
		return;
	}
	if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		receive(index);
}

static int by_size(const void *a, const void *b)
{
	uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

	return one < other ? -1 : one > other;
}

static void report(uint64_t began)
{
	uint64_t kept = done < TIMES_MAX ? done : TIMES_MAX;
	double seconds = (double)(now() - began) / 1e9;

	qsort(times, kept, sizeof(*times), by_size);
	printf("requests=%lu failed=%lu refused=%lu dialled=%lu per_second=%.0f", done, failed,
	       refused, dialled, (double)done / seconds);
	printf(" p50_us=%u p99_us=%u max_us=%u\n", kept ? times[kept / 2] : 0,
	       kept ? times[kept * 99 / 100] : 0, kept ? times[kept - 1] : 0);
}

static void run(uint64_t rate, uint64_t end)
{
	struct epoll_event events[256];
	uint64_t interval = rate ? 1000000000 / rate : 0, due = now();

	while (!is_over && now() < end) {
		uint64_t at = now(), next = end;
		struct timespec wait;
		int ready;

		while (rate && due <= at) {
			int index = take();

			if (index >= 0)
				ask(index, due);
			else
				waiting[waiting_end++ % TIMES_MAX] = due;
			due += interval;
		}
		if (rate && due < next)
			next = due;
		wait.tv_sec = (time_t)((next - at) / 1000000000);
		wait.tv_nsec = (long)((next - at) % 1000000000);
		ready = epoll_pwait2(set, events, 256, &wait, NULL);
		for (int index = 0; index < ready; index++)
			serve(&events[index]);
	}
}

static int aim(const char *address, uint16_t port)
{
	struct sockaddr_in *v4 = (void *)&target;
	struct sockaddr_in6 *v6 = (void *)&target;

	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		target_bytes = sizeof(*v4);
		return 1;
	}
	if (inet_pton(AF_INET6, address, &v6->sin6_addr) != 1)
		return 0;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	target_bytes = sizeof(*v6);
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t began, rate;

	if (argc != 7 || !aim(argv[4], (uint16_t)atoi(argv[5]))) {
		fprintf(stderr, "pace RATE CONNECTIONS SECONDS ADDRESS PORT PATH\n");
		return 64;
	}
	rate = strtoull(argv[1], NULL, 10);
	count = atoi(argv[2]);
	floods = !rate;
	if (count < 1 || count > CONNECTIONS_MAX)
		return 64;
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	request_bytes =
	    (size_t)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s%s%s:%s\r\n\r\n",
			     argv[6], strchr(argv[4], ':') ? "[" : "", argv[4],
			     strchr(argv[4], ':') ? "]" : "", argv[5]);
	all = calloc((size_t)count, sizeof(*all));
	idle = calloc((size_t)count, sizeof(*idle));
	waiting = calloc(TIMES_MAX, sizeof(*waiting));
	times = calloc(TIMES_MAX, sizeof(*times));
	set = epoll_create1(EPOLL_CLOEXEC);
	if (!all || !idle || !waiting || !times || set < 0)
		return 71;
	began = now();
	for (int index = 0; index < count; index++)
		dial(index);
	run(rate, began + strtoull(argv[3], NULL, 10) * 1000000000);
	report(began);
	return failed || refused ? 1 : 0;
}
