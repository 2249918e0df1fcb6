/* What the files of this folder share. */
#pragma once
#include "malla_tls.h"

/* A context with what all of ours have in common: suites, groups, options. NULL without memory. */
SSL_CTX *tls_context_plain(const SSL_METHOD *method);
/* The session of OpenSSL's behind ours. */
SSL *tls_session_ssl(const struct engine_session *session);
