/*
 * floor.c - copies bytes between pairs of sockets without reading them: the least that a proxy
 * with one upstream connection a downstream connection can cost on this machine.
 *
 * floor ADDRESS PORT BACKEND_ADDRESS BACKEND_PORT. One thread, level-triggered epoll.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 65536, SOCKETS = 65536 };

static int partner[SOCKETS];
static char chunk[CHUNK];

static struct sockaddr_in at(const char *address, const char *port)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};

	name.sin_addr.s_addr = inet_addr(address);
	return name;
}

static void watch(int set, int socket)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
	int on = 1;

	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	epoll_ctl(set, EPOLL_CTL_ADD, socket, &event);
}

static void join(int set, int client, const struct sockaddr_in *backend)
{
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (server < 0 || client >= SOCKETS || server >= SOCKETS ||
	    connect(server, (const struct sockaddr *)backend, sizeof(*backend))) {
		close(client);
		if (server >= 0)
			close(server);
		return;
	}
	partner[client] = server;
	partner[server] = client;
	watch(set, client);
	watch(set, server);
}

/* Blocking writes: a load generator that reads what it asked for never lets them wait long. */
static int copy(int from)
{
	/* An event may be of a socket that had this number before: then there is nothing yet. */
	ssize_t count = recv(from, chunk, CHUNK, MSG_DONTWAIT);
	ssize_t sent = 0;

	if (count <= 0)
		return count < 0 && errno == EAGAIN;
	while (sent < count) {
		ssize_t part = send(partner[from], chunk + sent, count - sent, MSG_NOSIGNAL);

		if (part <= 0)
			return 0;
		sent += part;
	}
	return 1;
}

int main(int count, char **arguments)
{
	struct epoll_event events[256];
	struct sockaddr_in name, backend;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int set = epoll_create1(EPOLL_CLOEXEC), on = 1;

	if (count != 5)
		return fputs("usage: floor ADDRESS PORT BACKEND_ADDRESS BACKEND_PORT\n", stderr),
		       64;
	name = at(arguments[1], arguments[2]);
	backend = at(arguments[3], arguments[4]);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&name, sizeof(name)) || listen(listener, 4096))
		return perror("floor"), 71;
	watch(set, listener);

	for (;;) {
		int ready = epoll_wait(set, events, 256, -1);

		for (int index = 0; index < ready; index++) {
			int socket = events[index].data.fd, other = partner[socket];

			if (socket == listener) {
				int client = accept(listener, NULL, NULL);

				if (client >= 0)
					join(set, client, &backend);
			} else if (other && !copy(socket)) {
				partner[socket] = partner[other] = 0;
				close(socket);
				close(other);
			}
		}
	}
}
