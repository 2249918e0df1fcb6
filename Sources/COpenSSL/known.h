/* Certificates of peers that this worker has verified before. */
#pragma once
#include "malla_tls.h"

#include <openssl/x509.h>

/* What a certificate was verified for: by this trust, as one of a client or of a server. */
struct tls_claim {
	uint64_t trust;
	int is_server;
	uint8_t digest[32]; /* SHA-256, of the SHA-256 of each certificate that was shown */
};

/* `shown`: the leaf first, and what came with it. 0, or -1 where it is too long to be remembered.
 */
int tls_claim_make(struct tls_claim *out, uint64_t trust, int is_server,
		   const STACK_OF(X509) * shown);
/* Whether the claim was verified before, and all that stood behind it is valid now: until when it
 * is, in seconds since 1970; else 0. */
int64_t tls_known_find(const struct tls_wire *wire, const struct tls_claim *claim);
/* `chain`: what the claim (NULL: remember none) was verified with, the leaf first. Until when all
 * of it is valid; 0 where it does not say. */
int64_t tls_known_put(struct tls_wire *wire, const struct tls_claim *claim,
		      const STACK_OF(X509) * chain);
