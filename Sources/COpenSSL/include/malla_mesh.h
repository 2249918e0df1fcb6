/* Mutual TLS 1.3 between workloads: who we are (an X509-SVID), whom we trust (bundles by trust
 * domain), and who the peer proved to be (its SPIFFE ID).
 * Source: SPIFFE X509-SVID standard, sections 2 to 5; RFC 8446; ALPN "h2" is insisted on. */
#pragma once
#include <malla_tls.h>

/* Roots and revocation lists of trust domains. Counted: contexts hold references of their own. */
struct tls_trust;
struct tls_trust *tls_trust_new(void);
/* `roots` and `lists` are DER, one behind another. 0, or -1 with the reason of `tls_error_text`;
 * before the first context is made only. */
int tls_trust_add(struct tls_trust *trust, const char *domain, const uint8_t *roots,
		  size_t roots_bytes, const uint8_t *lists, size_t lists_bytes);
void tls_trust_release(struct tls_trust *trust);

/* One workload's context for one direction. `chain` is DER, the SVID first; the key stays the
 * caller's, the context holds a reference. NULL with the reason of `tls_error_text`. */
SSL_CTX *tls_mesh_context(int is_server, EVP_PKEY *key, const uint8_t *chain, size_t chain_bytes,
			  struct tls_trust *trust);

/* The peer must prove to be `id` (copied, NUL-terminated): before the handshake. 0, or -1. */
int tls_session_expect(struct engine_session *session, const char *id);
/* The peer's SPIFFE ID, once its certificate was verified; NULL before and where there is none. The
 * bytes live as long as the session. */
const char *tls_session_peer(const struct engine_session *session);
/* The same of a certificate that was shown, whether it was believed or not: for people to read. */
const char *tls_session_claim(const struct engine_session *session);
/* What was agreed on, in the numbers of RFC 8446: version (0x0304) and suite (0x1301 ...). */
unsigned int tls_session_version(const struct engine_session *session);
unsigned int tls_session_cipher(const struct engine_session *session);
/* When the first of our certificate and those behind the peer's runs out, in seconds since 1970; 0
 * where there is none. */
int64_t tls_session_not_after(const struct engine_session *session);
/* Whether the trust that is in force now believes the peer too, whatever the time:
 * TLS_FAILURE_NONE, _UNTRUSTED or _REVOKED. */
enum tls_failure tls_session_recheck(const struct engine_session *session,
				     const struct tls_trust *trust);
/* Whether the peers agreed on HTTP/2 by ALPN. A server insists on it; a client asks behind the
 * handshake, because a server may go on without an answer. */
int tls_session_is_h2(const struct engine_session *session);
