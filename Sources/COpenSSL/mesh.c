/* Verification of peers: the SPIFFE ID in the certificate names the trust domain, the domain's
 * roots must have signed it, its lists must not revoke it, and where we know whom we want, it must
 * be that one. All is parsed when a bundle comes, nothing but the peer's certificate in a
 * handshake. */
#define _GNU_SOURCE
#include "malla_mesh.h"
#include "known.h"
#include "library.h"
#include "revocation.h"
#include "session.h"

#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const unsigned char only_h2[] = "\x02h2";
static const char suites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

struct domain {
	char *name;
	STACK_OF(X509) * roots;
	STACK_OF(X509_CRL) * lists;
};

struct tls_trust {
	int references;
	uint64_t number; /* no other has had it */
	int count;
	int has_twins; /* a domain has roots of one name */
	struct domain *domains;
};

/* Where a session keeps the ID that it wants, and the one that the peer has. */
static int wanted_index = -1, peer_index = -1, trust_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_text(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl,
		      void *argp)
{
	(void)parent, (void)data, (void)index, (void)argl, (void)argp;
	free(pointer);
}

static void free_trust(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl,
		       void *argp)
{
	(void)parent, (void)data, (void)index, (void)argl, (void)argp;
	tls_trust_release(pointer);
}

static void prepare(void)
{
	wanted_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_text);
	peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_text);
	trust_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_trust);
}

/* ---- trust ---- */

struct tls_trust *tls_trust_new(void)
{
	static uint64_t numbers;
	struct tls_trust *trust = calloc(1, sizeof(*trust));

	pthread_once(&once, prepare);
	if (trust) {
		trust->references = 1;
		trust->number = __atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED);
	}
	return trust;
}

void tls_trust_release(struct tls_trust *trust)
{
	int index;

	if (!trust || __atomic_sub_fetch(&trust->references, 1, __ATOMIC_ACQ_REL))
		return;
	for (index = 0; index < trust->count; index++) {
		free(trust->domains[index].name);
		sk_X509_pop_free(trust->domains[index].roots, X509_free);
		tls_lists_free(trust->domains[index].lists);
	}
	free(trust->domains);
	free(trust);
}

static int read_roots(struct domain *domain, const uint8_t *bytes, size_t count)
{
	const uint8_t *end = bytes + count;

	while (bytes < end) {
		X509 *root = tls_library_read(&bytes, end - bytes);

		if (!root || !sk_X509_push(domain->roots, root)) {
			X509_free(root);
			return -1;
		}
	}
	return 0;
}

/* Roots of one name are not told apart by it. */
static int has_twins(const struct domain *domain)
{
	int one, other;

	for (one = 0; one < sk_X509_num(domain->roots); one++)
		for (other = 0; other < one; other++)
			if (!X509_NAME_cmp(
				X509_get_subject_name(sk_X509_value(domain->roots, one)),
				X509_get_subject_name(sk_X509_value(domain->roots, other))))
				return 1;
	return 0;
}

int tls_trust_add(struct tls_trust *trust, const char *name, const uint8_t *roots,
		  size_t roots_bytes, const uint8_t *lists, size_t lists_bytes)
{
	size_t bytes = ((size_t)trust->count + 1) * sizeof(*trust->domains);
	struct domain *domain = realloc(trust->domains, bytes);

	ERR_clear_error();
	if (!domain)
		return -1;
	trust->domains = domain;
	domain += trust->count++;
	domain->name = strdup(name);
	domain->roots = sk_X509_new_null();
	domain->lists = tls_lists_read(lists, lists_bytes);
	if (!domain->name || !domain->roots || read_roots(domain, roots, roots_bytes))
		return -1;
	trust->has_twins |= has_twins(domain);
	return domain->lists ? 0 : -1;
}

static const struct domain *domain_of(const struct tls_trust *trust, const char *id)
{
	const char *name = id + strlen("spiffe://");
	size_t bytes = strcspn(name, "/");
	int index;

	for (index = 0; index < trust->count; index++)
		if (strlen(trust->domains[index].name) == bytes &&
		    !memcmp(trust->domains[index].name, name, bytes))
			return &trust->domains[index];
	return NULL;
}

/* ---- the peer's certificate ---- */

/* An authority without a list revokes nothing. */
static int is_signed(X509_STORE_CTX *store, const struct domain *domain)
{
	X509_STORE_CTX_set0_trusted_stack(store, domain->roots);
	X509_STORE_CTX_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	if (X509_verify_cert(store) != 1)
		return 0;
	if (!tls_is_revoked(X509_STORE_CTX_get0_chain(store), domain->lists))
		return 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
	return 0;
}

/* As is_signed, but for what this worker has verified before; notes until when the peer's chain is
 * valid. */
static int is_known_or_signed(X509_STORE_CTX *store, SSL *session, const struct tls_trust *trust,
			      const struct domain *domain)
{
	struct tls_session *ours = SSL_get_app_data(session);
	struct tls_claim claim;

	STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(store);
	int has_claim = sk_X509_value(shown, 0) == X509_STORE_CTX_get0_cert(store) &&
			!tls_claim_make(&claim, trust->number, !SSL_is_server(session), shown);

	ours->peer_until = has_claim ? tls_known_find(ours->wire, &claim) : 0;
	if (ours->peer_until) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	if (!is_signed(store, domain))
		return 0;
	ours->peer_until =
	    tls_known_put(ours->wire, has_claim ? &claim : NULL, X509_STORE_CTX_get0_chain(store));
	return 1;
}

static int verify_workload(X509_STORE_CTX *store, void *argument)
{
	SSL *session = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	const struct tls_trust *trust = argument;
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	const char *wanted = SSL_get_ex_data(session, wanted_index);
	const struct domain *domain;
	char *id = tls_spiffe_id(leaf);

	/* Nothing but a SPIFFE ID is looked at any further. */
	if (!id || SSL_set_ex_data(session, peer_index, id) != 1) {
		free(id);
		X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
		return 0;
	}
	/* The roots of the domain that the ID names, and no others, may have signed it. */
	domain = domain_of(trust, id);
	if (!domain) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
		return 0;
	}
	if (!is_known_or_signed(store, session, trust, domain))
		return 0;
	if (wanted && strcmp(wanted, id)) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
		return 0;
	}
	return 1;
}

/* ---- contexts ---- */

static int select_h2(SSL *session, const unsigned char **out, unsigned char *out_bytes,
		     const unsigned char *in, unsigned int in_bytes, void *argument)
{
	unsigned char *chosen = NULL;

	(void)session, (void)argument;
	if (SSL_select_next_proto(&chosen, out_bytes, only_h2, sizeof(only_h2) - 1, in, in_bytes) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int use_identity(SSL_CTX *context, EVP_PKEY *key, const uint8_t *chain, size_t bytes)
{
	const uint8_t *end = chain + bytes;
	X509 *certificate = tls_library_read(&chain, (long)bytes);
	int result = certificate ? SSL_CTX_use_certificate(context, certificate) : 0;

	X509_free(certificate);
	while (result == 1 && chain < end) {
		certificate = tls_library_read(&chain, end - chain);
		/* Takes the certificate over when it succeeds. */
		result = certificate ? (int)SSL_CTX_add0_chain_cert(context, certificate) : 0;
		if (result != 1)
			X509_free(certificate);
	}
	/* Fails where the key is not the certificate's. */
	return result == 1 && SSL_CTX_use_PrivateKey(context, key) == 1 ? 0 : -1;
}

SSL_CTX *tls_mesh_context(int is_server, EVP_PKEY *key, const uint8_t *chain, size_t chain_bytes,
			  struct tls_trust *trust)
{
	SSL_CTX *context = tls_context_plain(tls_library_of(key),
					     is_server ? TLS_server_method() : TLS_client_method());
	int verifies = SSL_VERIFY_PEER | (is_server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);

	pthread_once(&once, prepare);
	if (!context)
		return NULL;
	__atomic_add_fetch(&trust->references, 1, __ATOMIC_RELAXED);
	if (SSL_CTX_set_ex_data(context, trust_index, trust) != 1) {
		tls_trust_release(trust);
		SSL_CTX_free(context);
		return NULL;
	}
	/* A session that is resumed would not see what was revoked since: there are none. */
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
	/* Chains are what the SVID source gave: nothing is looked for or built. */
	SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_verify(context, verifies, NULL);
	SSL_CTX_set_cert_verify_callback(context, verify_workload, trust);
	if (trust->has_twins)
		X509_STORE_set_check_issued(SSL_CTX_get_cert_store(context), tls_is_issued);
	if (is_server)
		SSL_CTX_set_alpn_select_cb(context, select_h2, NULL);
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(context, suites) != 1 ||
	    (!is_server && SSL_CTX_set_alpn_protos(context, only_h2, sizeof(only_h2) - 1)) ||
	    use_identity(context, key, chain, chain_bytes)) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

/* ---- sessions ---- */

int tls_session_expect(struct engine_session *session, const char *id)
{
	char *copy = strdup(id);

	if (copy && SSL_set_ex_data(tls_session_ssl(session), wanted_index, copy) == 1)
		return 0;
	free(copy);
	return -1;
}

const char *tls_session_peer(const struct engine_session *session)
{
	const SSL *ssl = tls_session_ssl(session);

	return SSL_get_verify_result(ssl) == X509_V_OK ? SSL_get_ex_data(ssl, peer_index) : NULL;
}

const char *tls_session_claim(const struct engine_session *session)
{
	return SSL_get_ex_data(tls_session_ssl(session), peer_index);
}

int tls_session_is_h2(const struct engine_session *session)
{
	const unsigned char *name = NULL;
	unsigned int bytes = 0;

	SSL_get0_alpn_selected(tls_session_ssl(session), &name, &bytes);
	return bytes == 2 && !memcmp(name, "h2", 2);
}

unsigned int tls_session_version(const struct engine_session *session)
{
	return (unsigned int)SSL_version(tls_session_ssl(session));
}

unsigned int tls_session_cipher(const struct engine_session *session)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(tls_session_ssl(session));

	return cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0;
}

static int64_t seconds_of(const X509 *certificate)
{
	struct tm time;

	if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &time) != 1)
		return 0;
	return timegm(&time);
}

int64_t tls_session_not_after(const struct engine_session *session)
{
	int64_t theirs = ((const struct tls_session *)session)->peer_until;
	int64_t ours = seconds_of(SSL_get_certificate(tls_session_ssl(session)));

	return theirs < ours ? theirs : ours;
}

enum tls_failure tls_session_recheck(const struct engine_session *session,
				     const struct tls_trust *trust)
{
	SSL *ssl = tls_session_ssl(session);
	enum tls_failure result = TLS_FAILURE_UNTRUSTED;
	X509 *leaf = SSL_get0_peer_certificate(ssl);
	const char *id = SSL_get_ex_data(ssl, peer_index);
	const struct domain *domain = id && trust ? domain_of(trust, id) : NULL;
	X509_STORE *store;
	X509_STORE_CTX *check;

	/* It is the one that the handshake was judged by. */
	if (domain && SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), trust_index) == trust)
		return TLS_FAILURE_NONE;
	store = X509_STORE_new();
	check = X509_STORE_CTX_new();
	if (store && trust->has_twins)
		X509_STORE_set_check_issued(store, tls_is_issued);
	if (leaf && domain && store && check &&
	    X509_STORE_CTX_init(check, store, leaf, SSL_get_peer_cert_chain(ssl)) == 1) {
		/* What runs out ends nothing that is open. */
		X509_STORE_CTX_set_flags(check, X509_V_FLAG_NO_CHECK_TIME);
		if (is_signed(check, domain))
			result = TLS_FAILURE_NONE;
		else if (X509_STORE_CTX_get_error(check) == X509_V_ERR_CERT_REVOKED)
			result = TLS_FAILURE_REVOKED;
	}
	X509_STORE_CTX_free(check);
	X509_STORE_free(store);
	ERR_clear_error();
	return result;
}
