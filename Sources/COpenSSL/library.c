/* A library context with OpenSSL's default provider, of which little is left. OpenSSL 3.0 reads a
 * public key, one in every certificate that a peer shows, by making a list of all decoders of all
 * key types, joining each to each, and going through all methods of all operations: a third of a
 * handshake. TLS as we speak it, and what a peer's certificate may hold, needs few of either.
 * Source: provider(7); OpenSSL 3.0, crypto/encode_decode/decoder_pkey.c, crypto/evp/evp_fetch.c. */
#include "library.h"
#include "malla_tls.h"
#include "memory.h"

#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

enum { KEPT_MAX = 8 };

/* What is kept of an operation's list, by first names as the provider writes them; of operations
 * that are not named here all. Reading a key goes through every method that was ever looked up. */
static const struct {
	int operation;
	const char *names[KEPT_MAX + 1];
} kept[] = {
    {OSSL_OP_DECODER, {"EC", "RSA", "RSA-PSS", "ED25519", "ED448"}},
    {OSSL_OP_KEYMGMT, {"EC", "RSA", "RSA-PSS", "ED25519", "ED448", "X25519", "HMAC"}},
    {OSSL_OP_SIGNATURE, {"ECDSA", "RSA", "ED25519", "ED448", "HMAC"}},
    {OSSL_OP_KEYEXCH, {"X25519", "ECDH"}},
    {OSSL_OP_CIPHER, {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"}},
    {OSSL_OP_DIGEST, {"SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512"}},
    {OSSL_OP_MAC, {"HMAC"}},
    {OSSL_OP_KDF, {"HKDF", "TLS13-KDF", "TLS1-PRF"}},
    {OSSL_OP_KEM, {NULL}},
    {OSSL_OP_ASYM_CIPHER, {NULL}},
};
enum { KEPT = sizeof(kept) / sizeof(kept[0]) };

static OSSL_PROVIDER *whole;
/* Ends with a row of NULLs, as the provider's lists do. */
static OSSL_ALGORITHM lists[KEPT][KEPT_MAX + 1];
static OSSL_LIB_CTX *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int is_named(const OSSL_ALGORITHM *algorithm, const char *const *names)
{
	size_t bytes = strcspn(algorithm->algorithm_names, ":");

	for (; *names; names++)
		if (strlen(*names) == bytes &&
		    !strncasecmp(*names, algorithm->algorithm_names, bytes))
			return 1;
	return 0;
}

/* One of a certificate's public key. */
static int reads_certificates(const OSSL_ALGORITHM *algorithm)
{
	const char *properties = algorithm->property_definition;

	return properties && strstr(properties, "input=der") &&
	       strstr(properties, "structure=SubjectPublicKeyInfo");
}

/* Whether all that should be kept is there. */
static int choose(void)
{
	int at, count, no_cache = 0;

	for (at = 0; at < KEPT; at++) {
		const OSSL_ALGORITHM *all =
		    OSSL_PROVIDER_query_operation(whole, kept[at].operation, &no_cache);

		for (count = 0; all && all->algorithm_names && count < KEPT_MAX; all++)
			if (is_named(all, kept[at].names) &&
			    (kept[at].operation != OSSL_OP_DECODER || reads_certificates(all)))
				lists[at][count++] = *all;
		if (kept[at].names[count])
			return 0;
	}
	return 1;
}

/* ---- the provider ---- */

static const OSSL_ALGORITHM *query(void *context, int operation, int *no_cache)
{
	(void)context;
	for (int at = 0; at < KEPT; at++)
		if (kept[at].operation == operation) {
			*no_cache = 0;
			return lists[at];
		}
	return OSSL_PROVIDER_query_operation(whole, operation, no_cache);
}

/* TLS groups are among them. */
static int capabilities(void *context, const char *name, OSSL_CALLBACK *callback, void *argument)
{
	(void)context;
	return OSSL_PROVIDER_get_capabilities(whole, name, callback, argument);
}

static const OSSL_DISPATCH functions[] = {
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
    {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
    {0, NULL},
};

static int begin(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
		 const OSSL_DISPATCH **out, void **context)
{
	(void)handle, (void)core;
	*out = functions;
	/* The algorithms are the default provider's: what they are called with is, too. */
	*context = OSSL_PROVIDER_get0_provider_ctx(whole);
	return 1;
}

/* ---- the context ---- */

/* Whether it is the default provider that serves where nobody asks for another: openssl.cnf may
 * prefer FIPS, or a module of hardware. */
static int is_default(const OSSL_PROVIDER *provider)
{
	const char *name = provider ? OSSL_PROVIDER_get0_name(provider) : NULL;

	return name && !strcmp(name, "default");
}

static int is_plain(void)
{
	EVP_MD *digest = EVP_MD_fetch(NULL, "SHA256", NULL);
	EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(NULL, "ECDSA", NULL);
	int result = digest && signature && is_default(EVP_MD_get0_provider(digest)) &&
		     is_default(EVP_SIGNATURE_get0_provider(signature));

	EVP_MD_free(digest);
	EVP_SIGNATURE_free(signature);
	return result;
}

static int has_provider(void)
{
	if (!is_plain())
		return 0;
	whole = OSSL_PROVIDER_load(NULL, "default");
	return whole && choose();
}

static void prepare(void)
{
	OSSL_LIB_CTX *made;

	ERR_set_mark();
	made = has_provider() ? OSSL_LIB_CTX_new() : NULL;
	if (made && OSSL_PROVIDER_add_builtin(made, "malla", begin) == 1 &&
	    OSSL_PROVIDER_load(made, "malla"))
		library = made;
	else
		OSSL_LIB_CTX_free(made);
	ERR_pop_to_mark();
}

OSSL_LIB_CTX *tls_library(void)
{
	pthread_once(&once, prepare);
	return library;
}

int tls_has_library(void)
{
	return tls_library() != NULL;
}

/* ---- what is read into it ---- */

/* Of other types OpenSSL 3.0 would move secrets into ordinary memory. */
static int is_moved(const EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "EC");
}

OSSL_LIB_CTX *tls_library_of(const EVP_PKEY *key)
{
	return is_moved(key) ? tls_library() : NULL;
}

EVP_PKEY *tls_library_key(EVP_PKEY *key)
{
	EVP_PKEY_CTX *context;
	EVP_PKEY *moved = NULL;
	OSSL_PARAM *parts = NULL;

	if (!key || !is_moved(key) || !tls_library())
		return key;
	malla_wiping_begin();
	context = EVP_PKEY_CTX_new_from_name(library, "EC", NULL);
	if (!context || EVP_PKEY_todata(key, EVP_PKEY_KEYPAIR, &parts) != 1 ||
	    EVP_PKEY_fromdata_init(context) != 1 ||
	    EVP_PKEY_fromdata(context, &moved, EVP_PKEY_KEYPAIR, parts) != 1)
		moved = NULL;
	OSSL_PARAM_free(parts);
	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(key);
	malla_wiping_end();
	return moved;
}

/* What OpenSSL cannot read into a certificate it frees, and says so in `certificate`. */
X509 *tls_library_read(const uint8_t **bytes, long count)
{
	X509 *certificate = X509_new_ex(tls_library(), NULL);

	if (certificate && d2i_X509(&certificate, bytes, count))
		return certificate;
	X509_free(certificate);
	return NULL;
}

X509 *tls_library_read_pem(BIO *bio)
{
	X509 *certificate = X509_new_ex(tls_library(), NULL);

	if (certificate && PEM_read_bio_X509(bio, &certificate, NULL, NULL))
		return certificate;
	X509_free(certificate);
	return NULL;
}
