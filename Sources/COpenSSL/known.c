/* A peer opens several connections, and comes again, with the certificate of an hour ago. What was
 * signed stays signed; a root that goes and a list that comes make a new trust, with a number of
 * its own; and time is looked at each time. That leaves nothing for a second verification to find,
 * which is a fifth of a handshake. A peer's key is proven in every handshake, all the same. */
#define _GNU_SOURCE
#include "known.h"

#include <openssl/evp.h>
#include <string.h>
#include <time.h>

int tls_claim_make(struct tls_claim *out, uint64_t trust, int is_server, const X509 *leaf)
{
	unsigned int bytes = sizeof(out->digest);

	memset(out, 0, sizeof(*out));
	out->trust = trust;
	out->is_server = is_server;
	return X509_digest(leaf, EVP_sha256(), out->digest, &bytes) == 1 ? 0 : -1;
}

/* The newest wins a place. */
static size_t place_of(const struct tls_claim *claim)
{
	return (claim->digest[0] | (size_t)claim->digest[1] << 8) % TLS_KNOWN_MAX;
}

int64_t tls_known_find(const struct tls_wire *wire, const struct tls_claim *claim)
{
	const struct tls_known *place = &wire->known[place_of(claim)];
	time_t now = time(NULL);

	if (place->trust != claim->trust || place->is_server != claim->is_server ||
	    memcmp(place->digest, claim->digest, sizeof(claim->digest)))
		return 0;
	return place->not_before <= now && now < place->not_after ? place->not_after : 0;
}

static int seconds(const ASN1_TIME *time, int64_t *out)
{
	struct tm parts;

	if (ASN1_TIME_to_tm(time, &parts) != 1)
		return -1;
	*out = timegm(&parts);
	return 0;
}

int64_t tls_known_put(struct tls_wire *wire, const struct tls_claim *claim,
		      const STACK_OF(X509) * chain)
{
	struct tls_known known = {claim->trust, INT64_MIN, INT64_MAX, claim->is_server, {0}};
	int index;

	memcpy(known.digest, claim->digest, sizeof(known.digest));
	for (index = 0; index < sk_X509_num(chain); index++) {
		const X509 *certificate = sk_X509_value(chain, index);
		int64_t from, until;

		if (seconds(X509_get0_notBefore(certificate), &from) ||
		    seconds(X509_get0_notAfter(certificate), &until))
			return 0;
		known.not_before = from > known.not_before ? from : known.not_before;
		known.not_after = until < known.not_after ? until : known.not_after;
	}
	if (!index)
		return 0;
	wire->known[place_of(claim)] = known;
	return known.not_after;
}
