/* Sessions that endpoints offered to resume, kept for the next connection to them. */
#define _GNU_SOURCE
#include "malla_tls.h"

#include <time.h>

/* A resumed handshake proves no certificate again: what was true an hour ago must be shown anew. */
enum { KEPT_SECONDS = 3600 };

static int64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

static struct tls_kept *place_of(struct tls_wire *wire, uint64_t endpoint)
{
	return &wire->kept[endpoint % TLS_KEPT_MAX];
}

static int is_of(const struct tls_kept *place, uint64_t endpoint, uint32_t identity)
{
	return place->session && place->endpoint == endpoint && place->identity == identity;
}

/* RFC 8446 appendix C.4 would use a session once, so that nobody links connections; endpoints are
 * no persons, and many connections are dialled at once. */
int tls_kept_put(struct tls_wire *wire, uint64_t endpoint, uint32_t identity, SSL_SESSION *session,
		 int is_resumed)
{
	struct tls_kept *place = place_of(wire, endpoint);
	int64_t until = seconds() + KEPT_SECONDS;

	if (!SSL_SESSION_is_resumable(session))
		return 0;
	/* What a resumed connection offers is as old as the certificate that began it. */
	if (is_resumed) {
		if (!is_of(place, endpoint, identity))
			return 0;
		until = place->until;
	}
	SSL_SESSION_free(place->session);
	*place = (struct tls_kept){ endpoint, identity, until, session };
	return 1;
}

SSL_SESSION *tls_kept_find(struct tls_wire *wire, uint64_t endpoint, uint32_t identity)
{
	struct tls_kept *place = place_of(wire, endpoint);

	if (!is_of(place, endpoint, identity))
		return NULL;
	if (place->until > seconds())
		return place->session;
	SSL_SESSION_free(place->session);
	place->session = NULL;
	return NULL;
}

void tls_kept_free(struct tls_wire *wire)
{
	for (int at = 0; at < TLS_KEPT_MAX; at++)
		SSL_SESSION_free(wire->kept[at].session);
}
