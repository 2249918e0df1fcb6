/* Sessions: handshake, records in, records out, goodbye. OpenSSL's error queue is empty when a call
 * begins, because whoever finds an error in it empties it. */
#include "session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* Bytes of an answer that go in records of one segment each, so that the first of them can be
 * opened as soon as the first segment is there; what follows goes in large ones. The burst is what
 * a server may send at once at first (RFC 6928: ten segments). */
enum { RECORD_FIRST = 1380, RECORD_BURST = 10 * RECORD_FIRST };
/* Plain bytes that one call seals at most. The wire has room for them in records of either size. */
enum { SEALED_MAX = 128 * 1024 };

static enum tls_failure verification(const SSL *session)
{
	switch (SSL_get_verify_result(session)) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return TLS_FAILURE_EXPIRED;
	case X509_V_ERR_HOSTNAME_MISMATCH:
		return TLS_FAILURE_NAME_MISMATCH;
	case X509_V_ERR_CERT_REVOKED:
		return TLS_FAILURE_REVOKED;
	case X509_V_ERR_APPLICATION_VERIFICATION:
		return TLS_FAILURE_NO_SPIFFE_ID;
	default:
		return TLS_FAILURE_UNTRUSTED;
	}
}

static enum tls_failure reason(const SSL *session, unsigned long error)
{
	if (!error)
		return TLS_FAILURE_TRUNCATED;
	if (ERR_GET_LIB(error) != ERR_LIB_SSL)
		return TLS_FAILURE_OTHER;
	switch (ERR_GET_REASON(error)) {
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return TLS_FAILURE_TRUNCATED;
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
		return TLS_FAILURE_PLAIN_HTTP;
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_BAD_PACKET_LENGTH:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
	case SSL_R_RECORD_LENGTH_MISMATCH:
	case SSL_R_RECORD_TOO_SMALL:
	case SSL_R_UNEXPECTED_MESSAGE:
	case SSL_R_UNEXPECTED_RECORD:
	case SSL_R_BAD_RECORD_TYPE:
	case SSL_R_UNKNOWN_PROTOCOL:
		return TLS_FAILURE_NOT_TLS;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNSUPPORTED_SSL_VERSION:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
		return TLS_FAILURE_VERSION;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_GROUPS:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
		return TLS_FAILURE_CIPHER;
	case SSL_R_CALLBACK_FAILED:
		return TLS_FAILURE_NAME_UNKNOWN;
	case SSL_R_NO_APPLICATION_PROTOCOL:
		return TLS_FAILURE_PROTOCOL;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return TLS_FAILURE_NO_CERTIFICATE;
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
		return verification(session);
	default:
		/* Reasons above this are alerts of the peer. */
		return ERR_GET_REASON(error) > SSL_AD_REASON_OFFSET ? TLS_FAILURE_ALERT
								    : TLS_FAILURE_OTHER;
	}
}

/* What verifying a certificate has put into the queue (of a bad signature: ASN.1's) stands before
 * the handshake's own word. */
static unsigned long first_error(void)
{
	unsigned long error = ERR_peek_error();

	return ERR_GET_LIB(error) == ERR_LIB_SSL ? error : ERR_peek_last_error();
}

/* What a call that did not succeed means: 0 to come again, -1 at the end (`failure` says whether it
 * was an orderly one); empties the error queue. */
static int outcome(struct tls_session *session, int code)
{
	if (session->is_flood) {
		session->failure = TLS_FAILURE_OTHER;
		ERR_clear_error();
		return -1;
	}
	switch (SSL_get_error(session->ssl, code)) {
	case SSL_ERROR_WANT_READ:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		session->failure = TLS_FAILURE_NONE;
		break;
	default:
		session->failure = session->is_changed
				       ? TLS_FAILURE_OTHER
				       : (uint8_t)reason(session->ssl, first_error());
		break;
	}
	ERR_clear_error();
	return -1;
}

static void aim(struct tls_session *session)
{
	session->wire->fd = session->fd;
	session->wire->is_drained = 0;
	session->wire->is_ending = session->base.is_ending;
	session->wire->has_ended = 0;
	session->wire->count = 0;
}

static ssize_t push(int fd, const uint8_t *bytes, size_t count)
{
	ssize_t sent;

	do
		sent = send(fd, bytes, count, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -errno;
	return sent;
}

/* Keeps what the socket did not take. What is added to it bit by bit is not copied each time. */
static int keep(struct tls_session *session, const uint8_t *bytes, size_t count)
{
	size_t held = session->rest_end - session->rest_start;
	size_t room = session->rest ? held + count + TLS_ANSWERS_MAX : count;

	if (session->rest_room - session->rest_end < count) {
		uint8_t *block = malloc(room);

		if (!block)
			return -ENOMEM;
		if (held)
			memcpy(block, session->rest + session->rest_start, held);
		free(session->rest);
		session->rest = block;
		session->rest_room = room;
		session->rest_start = 0;
		session->rest_end = held;
	}
	memcpy(session->rest + session->rest_end, bytes, count);
	session->rest_end += count;
	return 0;
}

static void drop_rest(struct tls_session *session)
{
	if (session->answers)
		tls_account_for(session, -(ssize_t)session->answers);
	free(session->rest);
	session->rest = NULL;
	session->rest_start = session->rest_end = session->rest_room = 0;
}

/* Sends what the wire holds: 0, or -errno. */
static int send_wire(struct tls_session *session)
{
	struct tls_wire *wire = session->wire;
	ssize_t sent = 0;

	if (!wire->count)
		return 0;
	if (!session->rest)
		sent = push(session->fd, wire->bytes, wire->count);
	if (sent < 0)
		return (int)sent;
	if ((size_t)sent < wire->count)
		return keep(session, wire->bytes + sent, wire->count - (size_t)sent);
	return 0;
}

/* Sends what was kept: 1 when nothing is left, 0 when something is, or -errno. */
static int send_rest(struct tls_session *session)
{
	ssize_t sent;

	if (!session->rest)
		return 1;
	sent = push(session->fd, session->rest + session->rest_start,
		    session->rest_end - session->rest_start);
	if (sent < 0)
		return (int)sent;
	session->rest_start += (size_t)sent;
	if (session->rest_start < session->rest_end)
		return 0;
	drop_rest(session);
	return 1;
}

/* Sends what receiving made: answers to the peer's messages. */
static void send_answers(struct tls_session *session)
{
	size_t before = session->rest_end - session->rest_start;

	send_wire(session);
	if (session->rest_end - session->rest_start <= before)
		return;
	tls_account_for(session, (ssize_t)(session->rest_end - session->rest_start - before));
	if (session->answers > TLS_ANSWERS_MAX)
		session->is_flood = 1;
}

static int do_handshake(struct engine_session *base)
{
	struct tls_session *session = of(base);
	int code, result;

	aim(session);
	session->wire->keeps_first = 1;
	session->wire->first_count = 0;
	code = SSL_do_handshake(session->ssl);
	session->wire->keeps_first = 0;
	result = code == 1 ? 1 : outcome(session, code);
	session->has_answered |= session->wire->count > 0;
	/* An alert goes out even where the handshake failed. */
	if ((send_rest(session) < 0 || send_wire(session) < 0) && result >= 0) {
		session->failure = TLS_FAILURE_TRUNCATED;
		return -1;
	}
	if (result == 1) {
		session->is_done = 1;
		session->offers_ticket = SSL_is_server(session->ssl) &&
					 SSL_version(session->ssl) >= TLS1_3_VERSION &&
					 !(SSL_get_options(session->ssl) & SSL_OP_NO_TICKET);
	}
	return result;
}

static ssize_t do_receive(struct engine_session *base, void *bytes, size_t room)
{
	struct tls_session *session = of(base);
	size_t count = 0;
	int result = 0;

	base->is_drained = 0;
	if (session->is_flood)
		return -ECONNRESET;
	aim(session);
	session->is_receiving = 1;
	/* Records of one byte cost as much as large ones, and messages more: others wait meanwhile.
	 */
	for (int records = 0; count < room && records < 64; records++) {
		uint32_t before = session->messages;
		size_t more = 0;
		int code = SSL_read_ex(session->ssl, (uint8_t *)bytes + count, room - count, &more);

		count += more;
		records += (int)(session->messages - before);
		if (more)
			session->messages = 0;
		if (code != 1) {
			result = outcome(session, code);
			break;
		}
		if (session->wire->is_drained && !SSL_has_pending(session->ssl))
			break;
	}
	session->is_receiving = 0;
	if (session->wire->count)
		send_answers(session);
	session->burst = 0;
	if (count) {
		/* An end behind these bytes is met again by the next call. */
		base->is_drained = result == 0 && !session->is_flood && session->wire->is_drained &&
				   !SSL_has_pending(session->ssl);
		return (ssize_t)count;
	}
	if (session->is_flood)
		return -ECONNRESET;
	if (result == 0)
		return -EAGAIN;
	return session->failure == TLS_FAILURE_NONE ? 0 : -ECONNRESET;
}

/* Seals bytes into the wire: 0, or -1. */
static int seal(struct tls_session *session, const uint8_t *bytes, size_t count)
{
	while (count) {
		size_t written = 0;
		size_t piece = count;

		if (session->burst < RECORD_BURST && piece > RECORD_FIRST)
			piece = RECORD_FIRST;
		if (SSL_write_ex(session->ssl, bytes, piece, &written) != 1) {
			ERR_clear_error();
			return -1;
		}
		session->burst += (uint32_t)written;
		bytes += written;
		count -= written;
	}
	return 0;
}

/* Head and body in one record where they fit, which saves a record. */
static int seal_both(struct tls_session *session, const uint8_t *a, size_t a_count,
		     const uint8_t *b, size_t b_count)
{
	size_t record = session->burst < RECORD_BURST ? RECORD_FIRST : SSL3_RT_MAX_PLAIN_LENGTH;
	size_t joined;

	if (!b_count || a_count >= record)
		return seal(session, a, a_count) || seal(session, b, b_count) ? -1 : 0;
	joined = record - a_count < b_count ? record - a_count : b_count;
	memcpy(session->wire->staging, a, a_count);
	memcpy(session->wire->staging + a_count, b, joined);
	return seal(session, session->wire->staging, a_count + joined) ||
		       seal(session, b + joined, b_count - joined)
		   ? -1
		   : 0;
}

/* The socket took some of `rest`: as many plain bytes are taken, but for the last one. */
static ssize_t repay(struct tls_session *session, size_t before)
{
	size_t taken = before - (session->rest_end - session->rest_start);

	if (!session->owed)
		return -EAGAIN;
	if (taken >= session->owed)
		taken = session->owed - 1;
	session->owed -= taken;
	return taken ? (ssize_t)taken : -EAGAIN;
}

static ssize_t do_send(struct engine_session *base, const void *a, size_t a_count, const void *b,
		       size_t b_count)
{
	struct tls_session *session = of(base);
	size_t before = session->rest_end - session->rest_start, skipped, total, wanted;
	int is_whole, result = send_rest(session);

	if (result < 0)
		return result;
	if (!result)
		return repay(session, before);
	/* `a` has at least what was sealed before. */
	skipped = session->owed;
	a = (const uint8_t *)a + skipped;
	a_count -= skipped;
	session->owed = 0;
	if (!b)
		b_count = 0;
	wanted = a_count + b_count;
	if (a_count > SEALED_MAX)
		a_count = SEALED_MAX;
	if (b_count > SEALED_MAX - a_count)
		b_count = SEALED_MAX - a_count;
	total = a_count + b_count;
	if (!total)
		return (ssize_t)skipped;
	aim(session);
	if (session->offers_ticket) {
		session->offers_ticket = 0;
		SSL_new_session_ticket(session->ssl);
	}
	is_whole = total == wanted;
	if (seal_both(session, a, a_count, b, b_count))
		return -EPIPE;
	if (base->ends && is_whole && !SSL_in_init(session->ssl)) {
		SSL_shutdown(session->ssl);
		ERR_clear_error();
	}
	result = send_wire(session);
	if (result < 0)
		return result;
	if (!session->rest)
		return (ssize_t)(skipped + total);
	session->owed = session->rest_end - session->rest_start;
	if (session->owed > total)
		session->owed = total;
	total += skipped - session->owed;
	return total ? (ssize_t)total : -EAGAIN;
}

static void do_end(struct engine_session *base)
{
	struct tls_session *session = of(base);

	/* Behind half a record nothing can be said. */
	if (!session->is_done || session->rest)
		return;
	if (SSL_get_shutdown(session->ssl) & SSL_SENT_SHUTDOWN)
		return;
	aim(session);
	SSL_shutdown(session->ssl);
	ERR_clear_error();
	send_wire(session);
}

static void do_free(struct engine_session *base)
{
	struct tls_session *session = of(base);

	SSL_free(session->ssl);
	drop_rest(session);
	free(session->name);
	free(session);
}

static const struct engine_session_operations operations = {
    .handshake = do_handshake,
    .receive = do_receive,
    .send = do_send,
    .end = do_end,
    .free = do_free,
};

static struct tls_session *session_new(SSL_CTX *context, struct tls_wire *wire, int fd)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	SSL *ssl = session ? SSL_new(context) : NULL;
	BIO *bio = ssl ? tls_wire_bio(wire) : NULL;

	if (!bio) {
		SSL_free(ssl);
		free(session);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_bio(ssl, bio, bio);
	SSL_set_app_data(ssl, session);
	session->base.operations = &operations;
	session->ssl = ssl;
	session->wire = wire;
	session->fd = fd;
	return session;
}

struct engine_session *tls_accept_new(SSL_CTX *context, struct tls_wire *wire, int fd)
{
	struct tls_session *session = session_new(context, wire, fd);

	if (!session)
		return NULL;
	SSL_set_accept_state(session->ssl);
	return &session->base;
}

/* The contract is that of SSL_CTX_sess_set_new_cb(3): 1 keeps the reference. */
static int keep_session(SSL *ssl, SSL_SESSION *offered)
{
	struct tls_session *session = SSL_get_app_data(ssl);

	return session && session->identity &&
	       tls_kept_put(session->wire, session->endpoint, session->identity, offered,
			    SSL_session_reused(ssl));
}

void tls_context_keep_sessions(SSL_CTX *context)
{
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, keep_session);
}

struct engine_session *tls_connect_new(SSL_CTX *context, struct tls_wire *wire, int fd,
				       const char *name, uint64_t endpoint, uint32_t identity)
{
	struct tls_session *session = session_new(context, wire, fd);
	SSL_SESSION *previous = tls_kept_find(wire, endpoint, identity);

	if (!session)
		return NULL;
	session->endpoint = endpoint;
	session->identity = identity;
	SSL_set_connect_state(session->ssl);
	if ((name && *name && SSL_set_tlsext_host_name(session->ssl, name) != 1) ||
	    (previous && SSL_set_session(session->ssl, previous) != 1)) {
		do_free(&session->base);
		ERR_clear_error();
		return NULL;
	}
	return &session->base;
}

int tls_session_has_answered(const struct engine_session *session)
{
	return ((const struct tls_session *)session)->has_answered;
}

enum tls_failure tls_session_failure(const struct engine_session *session)
{
	return ((const struct tls_session *)session)->failure;
}

int tls_session_is_resumed(const struct engine_session *session)
{
	return SSL_session_reused(((const struct tls_session *)session)->ssl);
}

const char *tls_session_name(const struct engine_session *session)
{
	return ((const struct tls_session *)session)->name;
}

/* An IPv4 address, or one in brackets: no server name is ever one (RFC 6066 section 3). What is not
 * four numbers is a name, of digits too. Also true of no host at all (HTTP/1.0). */
static int is_address(const char *host, size_t count)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr address;

	if (!count || host[0] == '[')
		return 1;
	if (count >= sizeof(text))
		return 0;
	memcpy(text, host, count);
	text[count] = 0;
	return inet_pton(AF_INET, text, &address) == 1;
}

int tls_session_covers(const struct engine_session *base, const char *host, size_t count)
{
	const struct tls_session *session = (const struct tls_session *)base;
	X509 *certificate;

	/* Nearly always what was asked for in the hello. */
	if (session->name
		? strlen(session->name) == count && !strncasecmp(session->name, host, count)
		: is_address(host, count))
		return 1;
	certificate = SSL_get_certificate(session->ssl);
	return certificate && count &&
	       X509_check_host(certificate, host, count, TLS_NAME_FLAGS, NULL) == 1;
}

SSL *tls_session_ssl(const struct engine_session *session)
{
	return ((const struct tls_session *)session)->ssl;
}
