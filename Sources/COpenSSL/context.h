/* What the files of this folder share. */
#pragma once
#include "malla_tls.h"

/* How a certificate's names are compared. The subject names nobody (RFC 9525, section 6.2). */
#define TLS_NAME_FLAGS (X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)

/* A context with what all of ours have in common: suites, groups, options. NULL without memory. */
SSL_CTX *tls_context_plain(OSSL_LIB_CTX *library, const SSL_METHOD *method);
/* Has messages counted that sessions receive after their handshakes. */
void tls_context_count_messages(SSL_CTX *context);
/* The session of OpenSSL's behind ours. */
SSL *tls_session_ssl(const struct engine_session *session);
/* The SPIFFE ID of a workload's certificate, copied (free(3)); NULL where it is none as it should
 * be written, and where the certificate is an authority's. */
char *tls_spiffe_id(X509 *leaf);
