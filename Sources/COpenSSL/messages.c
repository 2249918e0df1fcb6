/* Messages of the protocol's own that come after a handshake: how many, and who pays for answers
 * that wait. */
#include "session.h"

/* After the handshake every message of the peer's comes by here, once in the state that it leads
 * to, and none of the records that carry data. What is too much cannot be refused here: a session
 * that has received its end reads nothing more. */
static void on_message(const SSL *ssl, int where, int value)
{
	struct tls_session *session = SSL_get_app_data(ssl);

	(void)value;
	if (!session || !session->is_receiving || !(where & SSL_CB_LOOP))
		return;
	switch (SSL_get_state(ssl)) {
	case TLS_ST_SR_KEY_UPDATE:
	case TLS_ST_CR_KEY_UPDATE:
	case TLS_ST_CR_SESSION_TICKET:
	case TLS_ST_SR_CLNT_HELLO:
	case TLS_ST_CR_HELLO_REQ:
		break;
	default: /* what we send, and the way back */
		return;
	}
	if (++session->messages <= TLS_MESSAGES_MAX)
		return;
	session->is_flood = 1;
	SSL_set_shutdown(session->ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
}

void tls_context_count_messages(SSL_CTX *context)
{
	SSL_CTX_set_info_callback(context, on_message);
}

void tls_account_for(struct tls_session *session, ssize_t count)
{
	if (!session->answers) {
		session->account = session->wire->account;
		session->total = session->wire->total;
	}
	session->answers += (size_t)count;
	if (session->account)
		*session->account += (uint64_t)count;
	if (session->total)
		*session->total += (uint64_t)count;
}

int tls_session_has_flooded(const struct engine_session *session)
{
	return ((const struct tls_session *)session)->is_flood;
}
