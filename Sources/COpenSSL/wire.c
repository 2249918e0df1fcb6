/* The wire of a worker's sessions: a BIO that reads the descriptor and writes into a block. */
#include "session.h"

#include <errno.h>
#include <openssl/bio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int wire_read(BIO *bio, char *bytes, int room)
{
	struct tls_wire *wire = BIO_get_data(bio);
	ssize_t count;

	BIO_clear_retry_flags(bio);
	if (wire->is_drained) {
		BIO_set_retry_read(bio);
		return -1;
	}
	do
		count = recv(wire->fd, bytes, (size_t)room, 0);
	while (count < 0 && errno == EINTR);
	/* Behind a short read stands nothing, or the end. */
	wire->is_drained = count < room && !wire->is_ending;
	if (count < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	if (wire->keeps_first && count > 0) {
		wire->first_count =
		    (size_t)count < sizeof(wire->first) ? (size_t)count : sizeof(wire->first);
		memcpy(wire->first, bytes, wire->first_count);
	}
	wire->has_ended = count == 0 || (count < 0 && errno != EAGAIN);
	return (int)count;
}

static int wire_write(BIO *bio, const char *bytes, int count)
{
	struct tls_wire *wire = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	/* Cannot happen: `Limits` asserts that the block holds what one call may seal. */
	if ((size_t)count > wire->capacity - wire->count)
		return -1;
	memcpy(wire->bytes + wire->count, bytes, (size_t)count);
	wire->count += (size_t)count;
	return count;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
	(void)number, (void)pointer;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return ((struct tls_wire *)BIO_get_data(bio))->has_ended;
	default:
		return 0;
	}
}

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "malla wire");
	if (!method)
		return;
	BIO_meth_set_read(method, wire_read);
	BIO_meth_set_write(method, wire_write);
	BIO_meth_set_ctrl(method, wire_control);
}

struct tls_wire *tls_wire_new(size_t capacity)
{
	struct tls_wire *wire = calloc(1, sizeof(*wire));

	pthread_once(&once, prepare);
	if (wire) {
		wire->bytes = malloc(capacity);
		wire->staging = malloc(SSL3_RT_MAX_PLAIN_LENGTH);
	}
	if (!wire || !wire->bytes || !wire->staging || !method) {
		tls_wire_free(wire);
		return NULL;
	}
	wire->capacity = capacity;
	return wire;
}

void tls_wire_free(struct tls_wire *wire)
{
	if (wire) {
		free(wire->bytes);
		free(wire->staging);
		tls_kept_free(wire);
	}
	free(wire);
}

BIO *tls_wire_bio(struct tls_wire *wire)
{
	BIO *bio = BIO_new(method);

	if (bio) {
		BIO_set_data(bio, wire);
		BIO_set_init(bio, 1);
	}
	return bio;
}
