/* Keys in the secure heap, and chains against bundles. */
#include "malla_svid.h"
#include "library.h"
#include "memory.h"
#include "revocation.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* No key in PEM is larger: RSA with 16 384 bits takes about 13 000. */
enum { KEY_FILE_BYTES_MAX = 65536 };

int malla_secure_heap_open(size_t bytes)
{
	if (CRYPTO_secure_malloc_initialized())
		return 1;
	return CRYPTO_secure_malloc_init(bytes, 32);
}

size_t malla_secure_heap_used(void)
{
	return CRYPTO_secure_used();
}

void malla_svid_problem(char *out, size_t room)
{
	unsigned long error = ERR_peek_last_error();
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	snprintf(out, room, "%s", reason ? reason : "no reason");
	ERR_clear_error();
}

/* ---- keys ---- */

EVP_PKEY *malla_key_new(void)
{
	EVP_PKEY *key;

	malla_wiping_begin();
	key = EVP_PKEY_Q_keygen(tls_library(), NULL, "EC", "P-256");
	malla_wiping_end();
	return key;
}

/* Never asks a terminal: an encrypted key is refused. */
static int no_password(char *buffer, int size, int rwflag, void *argument)
{
	(void)buffer, (void)size, (void)rwflag, (void)argument;
	return -1;
}

/* The whole file into secure memory; NULL if it is empty, too large or cannot be read. */
static BIO *secure_text(int descriptor)
{
	BIO *text = BIO_new(BIO_s_secmem());
	uint8_t *page = OPENSSL_secure_malloc(4096);
	size_t total = 0;
	ssize_t count = 1;

	while (text && page && count > 0 && total <= KEY_FILE_BYTES_MAX) {
		do
			count = read(descriptor, page, 4096);
		while (count < 0 && errno == EINTR);
		if (count > 0 && BIO_write(text, page, (int)count) != count)
			count = -1;
		total += count > 0 ? (size_t)count : 0;
	}
	OPENSSL_secure_clear_free(page, 4096);
	if (count == 0 && total)
		return text;
	BIO_free(text);
	return NULL;
}

EVP_PKEY *malla_key_from_der(const uint8_t *bytes, size_t count)
{
	const unsigned char *at = bytes;
	EVP_PKEY *key;

	ERR_clear_error();
	/* The decoders copy what they read into ordinary memory; the key itself is made in the
	 * secure heap. */
	malla_wiping_begin();
	key = tls_library_key(d2i_AutoPrivateKey(NULL, &at, (long)count));
	malla_wiping_end();
	return key;
}

EVP_PKEY *malla_key_read(int descriptor)
{
	BIO *text = secure_text(descriptor);
	unsigned char *der = NULL;
	long bytes = 0;
	EVP_PKEY *key = NULL;

	ERR_clear_error();
	/* Whatever PEM calls the key, its bytes stay in secure memory. */
	if (text && PEM_bytes_read_bio_secmem(&der, &bytes, NULL, PEM_STRING_EVP_PKEY, text,
					      no_password, NULL) > 0)
		key = malla_key_from_der(der, (size_t)bytes);
	OPENSSL_secure_clear_free(der, (size_t)bytes);
	BIO_free(text);
	return key;
}

static int write_all(int descriptor, const char *bytes, size_t count)
{
	while (count) {
		ssize_t written = write(descriptor, bytes, count);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return -1;
		bytes += written;
		count -= (size_t)written;
	}
	return 0;
}

int malla_key_write(const EVP_PKEY *key, const char *heading, int descriptor)
{
	BIO *text = BIO_new(BIO_s_secmem());
	char *bytes = NULL;
	long count = 0;
	int result = -1;

	malla_wiping_begin();
	if (text && BIO_puts(text, heading) > 0 &&
	    PEM_write_bio_PKCS8PrivateKey(text, key, NULL, NULL, 0, NULL, NULL))
		count = BIO_get_mem_data(text, &bytes);
	if (count > 0)
		result = write_all(descriptor, bytes, (size_t)count);
	BIO_free(text);
	malla_wiping_end();
	return result;
}

void malla_key_free(EVP_PKEY *key)
{
	EVP_PKEY_free(key);
}

enum malla_key_kind malla_key_kind(const EVP_PKEY *key)
{
	char group[32] = "";

	if (EVP_PKEY_is_a(key, "RSA"))
		return MALLA_KEY_RSA;
	if (EVP_PKEY_is_a(key, "ED25519"))
		return MALLA_KEY_ED25519;
	if (!EVP_PKEY_is_a(key, "EC") || !EVP_PKEY_get_group_name(key, group, sizeof(group), NULL))
		return MALLA_KEY_OTHER;
	if (!strcmp(group, "prime256v1") || !strcmp(group, "P-256"))
		return MALLA_KEY_P256;
	if (!strcmp(group, "secp384r1") || !strcmp(group, "P-384"))
		return MALLA_KEY_P384;
	if (!strcmp(group, "secp521r1") || !strcmp(group, "P-521"))
		return MALLA_KEY_P521;
	return MALLA_KEY_OTHER;
}

ssize_t malla_key_public(const EVP_PKEY *key, uint8_t *out, size_t room)
{
	int bytes = i2d_PUBKEY(key, NULL);

	if (bytes <= 0 || (size_t)bytes > room)
		return -1;
	return i2d_PUBKEY(key, &out);
}

ssize_t malla_key_sign(EVP_PKEY *key, int digest_bits, const uint8_t *bytes, size_t count,
		       uint8_t *out, size_t room)
{
	const char *digest = digest_bits == 256	  ? "SHA256"
			     : digest_bits == 384 ? "SHA384"
			     : digest_bits == 512 ? "SHA512"
						  : NULL;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t signature = room;
	ssize_t result = -1;

	ERR_clear_error();
	if (context &&
	    EVP_DigestSignInit_ex(context, NULL, digest, tls_library_of(key), NULL, key, NULL) ==
		1 &&
	    EVP_DigestSign(context, out, &signature, bytes, count) == 1)
		result = (ssize_t)signature;
	EVP_MD_CTX_free(context);
	return result;
}

int malla_key_matches(const EVP_PKEY *key, const uint8_t *certificate, size_t bytes)
{
	const unsigned char *at = certificate;
	X509 *read = d2i_X509(NULL, &at, (long)bytes);
	int result = read && X509_check_private_key(read, key) == 1;

	X509_free(read);
	ERR_clear_error();
	return result;
}

/* ---- chains ---- */

static STACK_OF(X509) * certificates(const uint8_t *bytes, size_t count)
{
	STACK_OF(X509) *list = sk_X509_new_null();
	const unsigned char *at = bytes, *end = bytes + count;

	while (list && at < end) {
		X509 *one = d2i_X509(NULL, &at, end - at);

		if (one && sk_X509_push(list, one) > 0)
			continue;
		X509_free(one);
		sk_X509_pop_free(list, X509_free);
		return NULL;
	}
	return list;
}

static int add_roots(X509_STORE *store, const uint8_t *bytes, size_t count)
{
	STACK_OF(X509) *roots = certificates(bytes, count);
	int index, result = roots ? 0 : -1;

	for (index = 0; index < sk_X509_num(roots) && !result; index++)
		if (X509_STORE_add_cert(store, sk_X509_value(roots, index)) != 1)
			result = -1;
	sk_X509_pop_free(roots, X509_free);
	return result;
}

static enum malla_chain_result outcome(int error)
{
	switch (error) {
	case X509_V_OK:
		return MALLA_CHAIN_GOOD;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return MALLA_CHAIN_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return MALLA_CHAIN_NOT_YET;
	case X509_V_ERR_CERT_REVOKED:
		return MALLA_CHAIN_REVOKED;
	default:
		return MALLA_CHAIN_UNTRUSTED;
	}
}

static enum malla_chain_result verify(X509_STORE *store, STACK_OF(X509) * chain,
				      STACK_OF(X509_CRL) * lists, int64_t now)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	enum malla_chain_result result = MALLA_CHAIN_UNREADABLE;

	X509_STORE_set_check_issued(store, tls_is_issued);
	if (context && X509_STORE_CTX_init(context, store, sk_X509_value(chain, 0), chain) == 1) {
		X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(context);

		X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
		X509_VERIFY_PARAM_set_time(parameters, (time_t)now);
		if (X509_verify_cert(context) != 1)
			result = outcome(X509_STORE_CTX_get_error(context));
		else if (tls_is_revoked(X509_STORE_CTX_get0_chain(context), lists))
			result = MALLA_CHAIN_REVOKED;
		else
			result = MALLA_CHAIN_GOOD;
	}
	X509_STORE_CTX_free(context);
	return result;
}

enum malla_chain_result malla_chain_check(const uint8_t *chain, size_t chain_bytes,
					  const uint8_t *roots, size_t roots_bytes,
					  const uint8_t *lists, size_t lists_bytes, int64_t now)
{
	X509_STORE *store = X509_STORE_new();
	STACK_OF(X509) *read = certificates(chain, chain_bytes);
	STACK_OF(X509_CRL) *revoked = tls_lists_read(lists, lists_bytes);
	enum malla_chain_result result = MALLA_CHAIN_UNREADABLE;

	if (store && revoked && sk_X509_num(read) > 0 && !add_roots(store, roots, roots_bytes))
		result = verify(store, read, revoked, now);
	sk_X509_pop_free(read, X509_free);
	tls_lists_free(revoked);
	X509_STORE_free(store);
	ERR_clear_error();
	return result;
}

enum malla_list_result malla_list_check(const uint8_t *list, size_t list_bytes,
					const uint8_t *authorities, size_t authorities_bytes)
{
	const unsigned char *at = list;
	X509_CRL *read = d2i_X509_CRL(NULL, &at, (long)list_bytes);
	STACK_OF(X509) *signers = certificates(authorities, authorities_bytes);
	enum malla_list_result result = read ? MALLA_LIST_FOREIGN : MALLA_LIST_UNREADABLE;
	int index;

	for (index = 0; read && index < sk_X509_num(signers); index++)
		if (tls_list_is_signed(read, sk_X509_value(signers, index)))
			result = MALLA_LIST_GOOD;
	sk_X509_pop_free(signers, X509_free);
	X509_CRL_free(read);
	ERR_clear_error();
	return result;
}
