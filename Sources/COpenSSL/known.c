/* A peer opens several connections, and comes again, with the certificate of an hour ago. What was
 * signed stays signed; a root that goes and a list that comes make a new trust, with a number of
 * its own; and time is looked at each time. That leaves nothing for a second verification to find,
 * which is a fifth of a handshake. A peer's key is proven in every handshake, all the same. */
#define _GNU_SOURCE
#include "known.h"

#include <openssl/evp.h>
#include <string.h>
#include <time.h>

enum { SHOWN_MAX = 8, DIGEST_BYTES = 32 };

int tls_claim_make(struct tls_claim *out, uint64_t trust, int is_server,
		   const STACK_OF(X509) * shown)
{
	uint8_t digests[SHOWN_MAX][DIGEST_BYTES];
	unsigned int bytes = DIGEST_BYTES;
	int count = sk_X509_num(shown), index;

	memset(out, 0, sizeof(*out));
	out->trust = trust;
	out->is_server = is_server;
	if (count < 1 || count > SHOWN_MAX)
		return -1;
	for (index = 0; index < count; index++)
		if (X509_digest(sk_X509_value(shown, index), EVP_sha256(), digests[index],
				&bytes) != 1)
			return -1;
	return EVP_Digest(digests, (size_t)count * DIGEST_BYTES, out->digest, &bytes, EVP_sha256(),
			  NULL) == 1
		   ? 0
		   : -1;
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
	struct tls_known known = {0, INT64_MIN, INT64_MAX, 0, {0}};
	int index;

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
	if (claim) {
		known.trust = claim->trust;
		known.is_server = claim->is_server;
		memcpy(known.digest, claim->digest, sizeof(known.digest));
		wire->known[place_of(claim)] = known;
	}
	return known.not_after;
}
