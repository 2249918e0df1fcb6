/* Under which rules for clients a session was begun. */
#include "context.h"

uint64_t tls_session_rules(const struct engine_session *session)
{
	const SSL_SESSION *shown = SSL_get_session(tls_session_ssl(session));
	unsigned int count = 0;
	const uint8_t *id = shown ? SSL_SESSION_get0_id_context(shown, &count) : NULL;
	uint64_t rules = 0;

	/* As TLSStore writes it: whose the listener is, then what it asks of clients. A name's hash
	 * is behind. */
	for (unsigned int i = 8; i < 16 && i < count; i++)
		rules |= (uint64_t)id[i] << 8 * (i - 8);
	return rules;
}
