/* What a listener asks of its clients: a certificate, and who must have signed it. */
#include "malla_tls.h"

#include <openssl/pem.h>

static int let_pass(int is_good, X509_STORE_CTX *store)
{
	(void)is_good, (void)store;
	return 1;
}

/* The names of the authorities are sent with the question, so that a client with several
 * certificates knows which of them to show. */
int tls_context_ask_clients(SSL_CTX *context, const uint8_t *bundle, size_t bytes, int is_optional)
{
	int required = is_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	BIO *bio = BIO_new_mem_buf(bundle, (int)bytes);
	X509 *certificate;
	int result = bio ? 0 : -1;

	while (bio && !result && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (SSL_CTX_add_client_CA(context, certificate) != 1)
			result = -1;
		X509_free(certificate);
	}
	BIO_free(bio);
	if (result || tls_context_trust(context, bundle, bytes))
		return -1;
	ERR_clear_error();
	/* A resumed session shows no certificate anew: neither given nor taken here. */
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | required, is_optional ? let_pass : NULL);
	return 0;
}
