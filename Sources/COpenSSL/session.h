/* A session as the files that serve it know it. */
#pragma once
#include "context.h"

struct tls_session {
	struct engine_session base;
	SSL *ssl;
	struct tls_wire *wire;
	int fd;
	/* Plain bytes at the head of the next `send` that are sealed already: they are reported as
	 * taken while the socket takes `rest`, so that the caller comes again, and sees progress.
	 */
	size_t owed;
	uint8_t failure;
	uint8_t offers_ticket;
	uint8_t is_done;
	uint32_t identity; /* of the endpoint; 0 for clients */
	uint64_t endpoint;
	int64_t peer_until; /* a workload's chain is valid, in seconds since 1970; 0 before it shows
			       one */
	uint32_t burst;	    /* bytes sent since something was last received */
	/* Records that the socket did not take. */
	uint8_t *rest;
	size_t rest_start, rest_end, rest_room;
	/* Of those, bytes that answer the peer's messages, and who pays for them. */
	size_t answers;
	uint64_t *account, *total;
	uint32_t messages; /* that came since the last data */
	uint8_t has_answered;
	uint8_t is_receiving;
	uint8_t is_flood;
	/* A client's first hello has come; a later one asked for another name. */
	uint8_t has_asked;
	uint8_t is_changed;
	/* What it asked for, in lower case and without a dot at its end; NULL: no name. */
	char *name;
};

/* What a client's hello says of the name that it asks for. */
enum tls_hello {
	TLS_HELLO_FIRST,
	TLS_HELLO_AGAIN,   /* behind a HelloRetryRequest, the same name */
	TLS_HELLO_CHANGED, /* another one (RFC 8446 section 4.1.2 forbids it) */
	TLS_HELLO_NO_NAME, /* what cannot be a host's name */
};
enum tls_hello tls_hello_take(struct tls_session *session);

/* A BIO of the wire's, NULL without memory. */
BIO *tls_wire_bio(struct tls_wire *wire);
/* Answers to the peer's messages wait, or (negative) do not any more. */
void tls_account_for(struct tls_session *session, ssize_t count);

static inline struct tls_session *of(struct engine_session *session)
{
	return (struct tls_session *)session;
}
