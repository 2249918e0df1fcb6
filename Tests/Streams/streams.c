/* Two ends of checksummed streams, for tests of what lies between them.
 *
 *   streams serve PORT              answers for ever; on PORT + 1 it speaks first
 *   streams call HOST PORT N UP DOWN   N connections at once, UP and DOWN bytes each
 *
 * Every byte is a function of the connection's seed and its offset, so that a byte that is lost,
 * doubled or out of order is found where it happens. Writes have random sizes. Each end says its
 * end when it has sent all, and reads on until the other's. `call` prints what it saw, and ends
 * with 1 when anything was wrong. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 128 * 1024, GREETING = 8, SECONDS = 120 };

struct order {
	uint64_t magic, up, down, seed;
};

struct way {
	int fd;
	uint64_t seed, bytes;
	char error[96];
};

struct call {
	struct sockaddr_storage address;
	socklen_t address_size;
	int is_greeted;
	struct order order;
	double greeted_ms;
	char error[96];
};

static const uint64_t magic = 0x816d616c6c610001;

static double now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static uint64_t mixed(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void fill(uint64_t *block, uint64_t seed, uint64_t number)
{
	for (uint64_t i = 0; i < BLOCK / 8; i++)
		block[i] = mixed(seed + number * (BLOCK / 8) + i);
}

static int send_all(int fd, const void *bytes, size_t count)
{
	for (size_t at = 0; at < count;) {
		ssize_t n = send(fd, (const char *)bytes + at, count - at, MSG_NOSIGNAL);
		if (n <= 0)
			return -1;
		at += n;
	}
	return 0;
}

static int receive_all(int fd, void *bytes, size_t count)
{
	for (size_t at = 0; at < count;) {
		ssize_t n = recv(fd, (char *)bytes + at, count - at, 0);
		if (n <= 0)
			return -1;
		at += n;
	}
	return 0;
}

static void *sender(void *argument)
{
	struct way *way = argument;
	uint64_t *block = malloc(BLOCK), dice = way->seed, sent = 0;

	while (sent < way->bytes) {
		uint64_t left = way->bytes - sent, size = left < BLOCK ? left : BLOCK;

		fill(block, way->seed, sent / BLOCK);
		for (uint64_t at = 0; at < size;) {
			dice = mixed(dice);
			uint64_t most = dice % 3 ? BLOCK : dice % 2 ? 1500 : 16;
			uint64_t piece = 1 + (dice >> 8) % most;
			if (piece > size - at)
				piece = size - at;
			if (send_all(way->fd, (char *)block + at, piece)) {
				snprintf(way->error, sizeof(way->error), "send: %s",
					 strerror(errno));
				goto out;
			}
			at += piece;
		}
		sent += size;
	}
	shutdown(way->fd, SHUT_WR);
out:
	free(block);
	return NULL;
}

static void *receiver(void *argument)
{
	struct way *way = argument;
	char *block = malloc(BLOCK), *bytes = malloc(BLOCK);
	uint64_t got = 0;

	while (1) {
		uint64_t offset = got % BLOCK;
		ssize_t n = recv(way->fd, bytes, BLOCK - offset, 0);

		if (n < 0) {
			snprintf(way->error, sizeof(way->error), "receive at %llu: %s",
				 (unsigned long long)got, strerror(errno));
			break;
		}
		if (n == 0)
			break;
		if (offset == 0)
			fill((uint64_t *)block, way->seed, got / BLOCK);
		if (memcmp(block + offset, bytes, n)) {
			snprintf(way->error, sizeof(way->error), "wrong bytes in %llu+%zd",
				 (unsigned long long)got, n);
			break;
		}
		got += n;
	}
	if (!way->error[0] && got != way->bytes)
		snprintf(way->error, sizeof(way->error), "%llu bytes of %llu",
			 (unsigned long long)got, (unsigned long long)way->bytes);
	free(block);
	free(bytes);
	return NULL;
}

static void start(pthread_t *thread, void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 * 1024);
	if (pthread_create(thread, &attributes, body, argument)) {
		perror("thread");
		exit(2);
	}
}

/* Both ways at once; the first error of either. */
static void exchange(int fd, uint64_t seed_out, uint64_t out, uint64_t seed_in, uint64_t in,
		     char *error, size_t error_size)
{
	struct way away = {.fd = fd, .seed = seed_out, .bytes = out};
	struct way back = {.fd = fd, .seed = seed_in, .bytes = in};
	pthread_t thread;

	start(&thread, sender, &away);
	receiver(&back);
	if (back.error[0])
		shutdown(fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	snprintf(error, error_size, "%s", back.error[0] ? back.error : away.error);
}

static void limit(int fd)
{
	struct timeval time = {.tv_sec = SECONDS};
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void *served(void *argument)
{
	int fd = (int)(intptr_t)argument & 0xffffff, greets = (int)(intptr_t)argument >> 24;
	struct order order;
	char error[96] = "";

	limit(fd);
	if (greets)
		send_all(fd, "220 hi\r\n", GREETING);
	if (!receive_all(fd, &order, sizeof(order)) && order.magic == magic)
		exchange(fd, ~order.seed, order.down, order.seed, order.up, error, sizeof(error));
	if (error[0])
		printf("served: %s\n", error);
	fflush(stdout);
	close(fd);
	return NULL;
}

static void *listening(void *argument)
{
	int port = (int)(intptr_t)argument & 0xffff, greets = (int)(intptr_t)argument >> 16,
	    one = 1;
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int listener = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 1024)) {
		perror("listen");
		exit(2);
	}
	while (1) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0)
			continue;
		start(&thread, served, (void *)(intptr_t)(fd | greets << 24));
		pthread_detach(thread);
	}
}

static void *calling(void *argument)
{
	struct call *call = argument;
	struct order *order = &call->order;
	int fd = socket(call->address.ss_family, SOCK_STREAM, 0);
	char greeting[GREETING];
	double began = now_ms();

	limit(fd);
	if (connect(fd, (struct sockaddr *)&call->address, call->address_size)) {
		snprintf(call->error, sizeof(call->error), "connect: %s", strerror(errno));
	} else if (call->is_greeted && receive_all(fd, greeting, GREETING)) {
		snprintf(call->error, sizeof(call->error), "no greeting: %s", strerror(errno));
	} else {
		call->greeted_ms = now_ms() - began;
		/* The first words in two pieces. */
		if (send_all(fd, order, 3) || send_all(fd, (char *)order + 3, sizeof(*order) - 3))
			snprintf(call->error, sizeof(call->error), "order: %s", strerror(errno));
		else
			exchange(fd, order->seed, order->up, ~order->seed, order->down, call->error,
				 sizeof(call->error));
	}
	close(fd);
	return NULL;
}

static int call_all(char **words)
{
	int count = atoi(words[4]), wrong = 0;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	struct call *calls = calloc(count, sizeof(*calls));
	pthread_t *threads = calloc(count, sizeof(*threads));
	double began = now_ms(), greeted = 0;

	if (getaddrinfo(words[2], words[3], &hints, &found))
		return 2;
	for (int i = 0; i < count; i++) {
		memcpy(&calls[i].address, found->ai_addr, found->ai_addrlen);
		calls[i].address_size = found->ai_addrlen;
		/* Odd ports are those that greet. */
		calls[i].is_greeted = atoi(words[3]) % 2;
		calls[i].order = (struct order){magic, strtoull(words[5], NULL, 10),
						strtoull(words[6], NULL, 10), mixed(i + 1)};
		start(&threads[i], calling, &calls[i]);
	}
	for (int i = 0; i < count; i++) {
		pthread_join(threads[i], NULL);
		if (calls[i].greeted_ms > greeted)
			greeted = calls[i].greeted_ms;
		if (calls[i].error[0] && ++wrong <= 5)
			printf("stream %d: %s\n", i, calls[i].error);
	}
	printf("%d of %d streams right, %.2f s, first word sent after %.1f ms at most\n",
	       count - wrong, count, (now_ms() - began) / 1e3, greeted);
	return wrong != 0;
}

int main(int count, char **words)
{
	pthread_t thread;

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (count == 3 && !strcmp(words[1], "serve")) {
		int port = atoi(words[2]);

		start(&thread, listening, (void *)(intptr_t)(port + 1 | 1 << 16));
		listening((void *)(intptr_t)port);
	}
	if (count == 7 && !strcmp(words[1], "call"))
		return call_all(words);
	fprintf(stderr, "streams serve PORT | call HOST PORT COUNT UP DOWN\n");
	return 64;
}
