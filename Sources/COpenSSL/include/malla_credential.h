/* Certificates and keys as files hold them (PEM): are they any good, and whom are they for?
 * No type of OpenSSL appears here, so that configuration can ask without speaking TLS. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* What is known of a certificate chain with its key, or of a bundle of authorities. */
struct malla_credential {
	int64_t not_before; /* seconds since 1970, of the first certificate */
	int64_t not_after;
	int32_t certificates;
	char problem[200]; /* empty: nothing is wrong */
};

/* Whether a chain (leaf first) and a private key belong together and can serve at `now`, seconds
 * since 1970: 0, or -1 with a problem. Never prints or copies anything of the key. */
int malla_credential_check(const uint8_t *chain, size_t chain_bytes, const uint8_t *key,
			   size_t key_bytes, int64_t now, struct malla_credential *out);

/* Whether a bundle holds certificates that can sign others: 0, or -1 with a problem. */
int malla_authorities_check(const uint8_t *bundle, size_t bytes, int64_t now,
			    struct malla_credential *out);

/* When the first certificate to expire of a chain does, leaf first, seconds since 1970; 0: there is
 * none that can be read. A root behind the leaf does not count. */
int64_t malla_credential_expiry(const uint8_t *chain, size_t bytes);

/* When the life of a chain's first certificate begins, the same. */
int64_t malla_credential_begin(const uint8_t *chain, size_t bytes);

/* The DNS names of a chain's first certificate, each followed by a line feed; the common name
 * where there is none. Answers the bytes written, at most `room`. */
size_t malla_credential_names(const uint8_t *chain, size_t bytes, char *out, size_t room);
