/* TLS as the engine uses it: contexts made by the agent's thread, sessions of one worker.
 *
 * Reading goes straight to the session's socket. What a call writes gathers in the worker's
 * `tls_wire`, whatever the number of records, and goes out as one piece; what the socket does not
 * take is kept with the session. */
#pragma once
#include <engine_session.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Why a handshake or a connection failed; the order is that of the Swift enum `TLSFailure`. */
enum tls_failure {
	TLS_FAILURE_NONE,
	TLS_FAILURE_OTHER,
	TLS_FAILURE_TRUNCATED, /* the connection ended without close_notify */
	TLS_FAILURE_NOT_TLS,
	TLS_FAILURE_PLAIN_HTTP,
	TLS_FAILURE_VERSION,
	TLS_FAILURE_CIPHER,
	TLS_FAILURE_NAME_UNKNOWN, /* no listener for the server name */
	TLS_FAILURE_PROTOCOL,	  /* ALPN without a protocol in common */
	TLS_FAILURE_ALERT,	  /* the peer refused, whatever its reason */
	TLS_FAILURE_UNTRUSTED,
	TLS_FAILURE_EXPIRED,
	TLS_FAILURE_NAME_MISMATCH,
	TLS_FAILURE_NO_CERTIFICATE, /* the client showed none, and must */
	TLS_FAILURE_REVOKED,
	TLS_FAILURE_NO_SPIFFE_ID, /* the certificate names no workload, or in no valid way */
};

/* A session of an earlier connection to an endpoint, for the next one. */
struct tls_kept {
	uint64_t endpoint; /* the caller's number of the endpoint */
	uint32_t identity; /* whom it was verified as: never resumed as another */
	int64_t until;	   /* seconds of CLOCK_MONOTONIC */
	SSL_SESSION *session;
};

enum { TLS_KEPT_MAX = 256 };

/* A peer's certificate that was verified: by which trust (never 0), whether as a server's, and from
 * when until when all of its chain is valid (seconds since 1970, the end excluded). */
struct tls_known {
	uint64_t trust;
	int64_t not_before, not_after;
	int is_server;
	uint8_t digest[32];
};

enum { TLS_KNOWN_MAX = 256 };

/* Messages of the protocol's own, KeyUpdates for one, that may come in a row, without a byte of
 * data between them: each costs as much as a small request. BoringSSL's limit; Go's is 16. */
enum { TLS_MESSAGES_MAX = 32 };
/* Bytes of answers to them that may wait for a peer that does not read. */
enum { TLS_ANSWERS_MAX = 4096 };

/* What the sessions of one worker share: the records of the call that is under way, and sessions
 * that endpoints offered to resume, one for each. */
struct tls_wire {
	int fd;		/* of the session that is being worked on */
	int is_drained; /* the last read took less than it could: nothing is left now */
	int has_ended;
	int is_ending;
	int keeps_first; /* a handshake: what is read is kept in `first` */
	size_t first_count;
	uint8_t first[512];
	size_t count;
	size_t capacity;
	/* Bytes of answers that wait are added up here, of the account that is served and of all;
	 * NULL: nowhere. */
	uint64_t *account, *total;
	uint8_t *bytes;
	uint8_t *staging;		       /* a record's worth of plain bytes */
	struct tls_kept kept[TLS_KEPT_MAX];    /* by endpoint, modulo; the newest wins a place */
	struct tls_known known[TLS_KNOWN_MAX]; /* by digest, likewise */
};

/* `capacity`: bytes of records that one call may make; NULL without memory. */
struct tls_wire *tls_wire_new(size_t capacity);
void tls_wire_free(struct tls_wire *wire);

/* Takes over a reference if it answers 1. */
int tls_kept_put(struct tls_wire *wire, uint64_t endpoint, uint32_t identity, SSL_SESSION *session,
		 int is_resumed);
/* NULL: none. The wire keeps its reference. */
SSL_SESSION *tls_kept_find(struct tls_wire *wire, uint64_t endpoint, uint32_t identity);
void tls_kept_free(struct tls_wire *wire);

/* Whether handshakes look their methods up in a short list of our own (library.c). */
int tls_has_library(void);

/* ---- contexts: NULL or a negative result comes with the reason of `tls_error_text` ---- */

/* Keys that seal session tickets, shared by all contexts of an engine. */
struct tls_ticket_keys;
struct tls_ticket_keys *tls_ticket_keys_new(void);
/* A new key seals from now on; the two before still open what they sealed. */
int tls_ticket_keys_rotate(struct tls_ticket_keys *keys);

/* minimum: TLS1_2_VERSION or TLS1_3_VERSION. `identity` separates the sessions of listeners: 16
 * bytes at most. */
SSL_CTX *tls_server_context(int minimum, struct tls_ticket_keys *keys, const uint8_t *identity,
			    unsigned int identity_bytes);
int tls_context_use(SSL_CTX *context, const uint8_t *chain, size_t chain_bytes, const uint8_t *key,
		    size_t key_bytes);
/* Clients are asked for a certificate that one of the bundle's authorities (PEM) signed; with
 * `is_optional` those without a good one pass, too: 0 or -1. Their sessions are not resumed: a
 * ticket would outlive the certificate. */
int tls_context_ask_clients(SSL_CTX *context, const uint8_t *bundle, size_t bytes, int is_optional);
/* Asks `choose` once for each new connection who serves the name (NULL, 0: none was given; else in
 * lower case, without a dot at its end): 1 with the context in `chosen` (left NULL: the one asked),
 * 0 to refuse. `release` gets the argument when the context is freed. */
typedef int (*tls_choose)(void *argument, const uint8_t *name, size_t name_bytes, SSL_CTX **chosen);
void tls_context_choose(SSL_CTX *context, tls_choose choose, void (*release)(void *argument),
			void *argument);

/* Whom a client wants to reach: the names are NUL-terminated, one after another. */
SSL_CTX *tls_client_context(const char *hosts, size_t hosts_count, const char *uris,
			    size_t uris_count);
int tls_context_trust(SSL_CTX *context, const uint8_t *bundle, size_t bytes);
int tls_context_trust_system(SSL_CTX *context);
void tls_context_free(SSL_CTX *context);
void tls_error_text(char *out, size_t room);

/* ---- sessions: what they do is behind `engine_session` ---- */

/* NULL without memory. The socket stays the caller's. */
struct engine_session *tls_accept_new(SSL_CTX *context, struct tls_wire *wire, int fd);
/* `name` is sent as SNI, NUL-terminated; NULL or empty: none. A session with the same endpoint and
 * identity is resumed if the endpoint agrees; it may be an hour old. */
struct engine_session *tls_connect_new(SSL_CTX *context, struct tls_wire *wire, int fd,
				       const char *name, uint64_t endpoint, uint32_t identity);
/* Has sessions of a client's context kept, in the wire of the worker that they belong to. */
void tls_context_keep_sessions(SSL_CTX *context);

/* Whether a handshake has come so far that the peer was answered. */
int tls_session_has_answered(const struct engine_session *session);
/* Whether the peer sent more messages, or left more answers to them unread, than it may. */
int tls_session_has_flooded(const struct engine_session *session);
/* Why the last step failed. */
enum tls_failure tls_session_failure(const struct engine_session *session);
int tls_session_is_resumed(const struct engine_session *session);
/* The server name of the client's first hello as `choose` was asked for it, NULL if none; its bytes
 * live as long as the session. */
const char *tls_session_name(const struct engine_session *session);
/* Whether our certificate of the session holds for the host, `count` bytes without a port, or the
 * client named that very host, or named none (no SNI) and asks for an address. */
int tls_session_covers(const struct engine_session *session, const char *host, size_t count);
/* What the listener asked of the client in the handshake, or in that of the session that was
 * resumed: the number that stands behind the first eight bytes of its context's `identity`; 0:
 * nothing. */
uint64_t tls_session_rules(const struct engine_session *session);
