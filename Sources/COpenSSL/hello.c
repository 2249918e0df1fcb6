/* The name that a client asks for (SNI): taken once, from its first hello, in the one form in which
 * names are compared. Whoever asks later which listener a connection is for asks for this one. */
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* RFC 1035 section 2.3.4, as RFC 6066 limits it: without the dot at its end. */
enum { NAME_BYTES_MAX = 255 };

/* The host_name of the server_name extension (RFC 6066 section 3), as the client sent it. */
static const uint8_t *sent_name(SSL *ssl, size_t *bytes)
{
	const unsigned char *data;
	size_t count, length;

	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &count))
		return NULL;
	if (count < 5 || (size_t)(data[0] << 8 | data[1]) + 2 != count ||
	    data[2] != TLSEXT_NAMETYPE_host_name)
		return NULL;
	length = (size_t)(data[3] << 8 | data[4]);
	if (length + 5 > count || !length)
		return NULL;
	*bytes = length;
	return data + 5;
}

enum tls_hello tls_hello_take(struct tls_session *session)
{
	size_t bytes = 0, at;
	const uint8_t *sent = sent_name(session->ssl, &bytes);

	/* `name.` is `name`, as it is in `Host`. */
	if (sent && sent[bytes - 1] == '.')
		bytes--;
	if (session->has_asked) {
		const char *first = session->name;
		int is_same = sent && first ? strlen(first) == bytes &&
						  !strncasecmp(first, (const char *)sent, bytes)
					    : !sent && !first;

		session->is_changed = !is_same;
		return is_same ? TLS_HELLO_AGAIN : TLS_HELLO_CHANGED;
	}
	session->has_asked = 1;
	if (!sent)
		return TLS_HELLO_FIRST;
	if (bytes > NAME_BYTES_MAX || memchr(sent, 0, bytes))
		return TLS_HELLO_NO_NAME;
	session->name = malloc(bytes + 1);
	if (!session->name)
		return TLS_HELLO_NO_NAME;
	for (at = 0; at < bytes; at++)
		session->name[at] =
		    (char)(sent[at] >= 'A' && sent[at] <= 'Z' ? sent[at] | 0x20 : sent[at]);
	session->name[bytes] = 0;
	return TLS_HELLO_FIRST;
}
