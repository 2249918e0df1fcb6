/* Contexts: what connections of one kind have in common. Made by the agent's thread, then only
 * read; workers share them. Defaults: Mozilla's "intermediate" profile without its finite-field
 * suites, and AES-128 first, because it is as good as AES-256 and costs less. */
#include "library.h"
#include "session.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char suites_1_2[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
				 "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
				 "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char suites_1_3[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256:P-384";
/* Wire format of ALPN. */
static const unsigned char protocols[] = "\x08http/1.1";

struct ticket_key {
	uint8_t name[16];
	uint8_t cipher[32];
	uint8_t mac[32];
};

/* The oldest of four places is written while nobody uses it: three open, one of them seals. */
enum { KEYS_OPENING = 3, KEYS = 4 };

struct tls_ticket_keys {
	struct ticket_key keys[KEYS];
	unsigned int sealing; /* counts up; modulo KEYS it is the place */
};

/* Of what separates sessions: TLSStore's (whose the listener is, what it asks of clients), zeros
 * where that is short, then the hash of the name. */
enum { IDENTITY_BYTES = 16, NAME_HASH_BYTES = 8 };

/* What our callbacks find at a context. */
struct extra {
	struct tls_ticket_keys *keys;
	uint8_t identity[IDENTITY_BYTES];
	tls_choose choose;
	void (*release)(void *argument);
	void *argument;
	char *hosts; /* NUL-terminated, one after another */
	size_t hosts_count;
	char *uris;
	size_t uris_count;
};

static int extra_index = -1;
static EVP_CIPHER *ticket_cipher;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_extra(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl,
		       void *argp)
{
	struct extra *extra = pointer;

	(void)parent, (void)data, (void)index, (void)argl, (void)argp;
	if (!extra)
		return;
	if (extra->release)
		extra->release(extra->argument);
	free(extra->hosts);
	free(extra->uris);
	free(extra);
}

static void prepare(void)
{
	extra_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_extra);
	ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
}

static struct extra *extra_of(const SSL_CTX *context)
{
	return SSL_CTX_get_ex_data(context, extra_index);
}

void tls_error_text(char *out, size_t room)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	OPENSSL_strlcpy(out, reason ? reason : "no reason given", room);
	ERR_clear_error();
}

/* ---- session tickets ---- */

struct tls_ticket_keys *tls_ticket_keys_new(void)
{
	struct tls_ticket_keys *keys = calloc(1, sizeof(*keys));

	/* Every place gets a key, so that no ticket is ever sealed with zeros. */
	if (keys && RAND_bytes((unsigned char *)keys->keys, sizeof(keys->keys)) != 1) {
		free(keys);
		return NULL;
	}
	return keys;
}

int tls_ticket_keys_rotate(struct tls_ticket_keys *keys)
{
	unsigned int next = keys->sealing + 1;

	if (RAND_bytes((unsigned char *)&keys->keys[next % KEYS], sizeof(keys->keys[0])) != 1)
		return -1;
	__atomic_store_n(&keys->sealing, next, __ATOMIC_RELEASE);
	return 0;
}

static int start_mac(EVP_MAC_CTX *mac, struct ticket_key *key)
{
	OSSL_PARAM params[3] = {
	    OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
	    OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params);
}

/* RFC 5077 section 4; the contract is that of SSL_CTX_set_tlsext_ticket_key_evp_cb(3). */
static int ticket_key(SSL *session, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		      EVP_MAC_CTX *mac, int seals)
{
	struct tls_ticket_keys *keys = extra_of(SSL_get_SSL_CTX(session))->keys;
	unsigned int newest = __atomic_load_n(&keys->sealing, __ATOMIC_ACQUIRE);
	unsigned int age;

	if (seals) {
		struct ticket_key *key = &keys->keys[newest % KEYS];

		if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(ticket_cipher)) != 1)
			return -1;
		memcpy(name, key->name, sizeof(key->name));
		return EVP_EncryptInit_ex(cipher, ticket_cipher, NULL, key->cipher, iv) == 1 &&
			       start_mac(mac, key) == 1
			   ? 1
			   : -1;
	}
	for (age = 0; age < KEYS_OPENING && age <= newest; age++) {
		struct ticket_key *key = &keys->keys[(newest - age) % KEYS];

		if (memcmp(name, key->name, sizeof(key->name)))
			continue;
		if (start_mac(mac, key) != 1 ||
		    EVP_DecryptInit_ex(cipher, ticket_cipher, NULL, key->cipher, iv) != 1)
			return -1;
		return age ? 2 : 1;
	}
	return 0;
}

/* ---- contexts ---- */

SSL_CTX *tls_context_plain(OSSL_LIB_CTX *library, const SSL_METHOD *method)
{
	struct extra *extra;
	SSL_CTX *context;

	pthread_once(&once, prepare);
	ERR_clear_error();
	context = SSL_CTX_new_ex(library, NULL, method);
	extra = calloc(1, sizeof(*extra));
	if (!context || !extra || SSL_CTX_set_ex_data(context, extra_index, extra) != 1) {
		free(extra);
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE |
					 SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	tls_context_count_messages(context);
	/* One recv(2) takes all records that have come. */
	SSL_CTX_set_read_ahead(context, 1);
	if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(context, suites_1_2) != 1 ||
	    SSL_CTX_set_ciphersuites(context, suites_1_3) != 1 ||
	    SSL_CTX_set1_groups_list(context, groups) != 1) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

/* RFC 7301: a client that wants something, and nothing that we speak, is told so. */
static int select_protocol(SSL *session, const unsigned char **out, unsigned char *out_bytes,
			   const unsigned char *in, unsigned int in_bytes, void *argument)
{
	unsigned char *chosen = NULL;

	(void)session, (void)argument;
	if (SSL_select_next_proto(&chosen, out_bytes, protocols, sizeof(protocols) - 1, in,
				  in_bytes) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* A session is resumed for the name that it was begun for, and for no other (RFC 6066 section 3):
 * OpenSSL does not look. FNV-1a tells names apart, no more. */
static int bind_name(SSL *ssl, const char *name)
{
	uint8_t identity[IDENTITY_BYTES + NAME_HASH_BYTES];
	uint64_t hash = 0xcbf29ce484222325;

	for (; name && *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
	memcpy(identity, extra_of(SSL_get_SSL_CTX(ssl))->identity, IDENTITY_BYTES);
	memcpy(identity + IDENTITY_BYTES, &hash, sizeof(hash));
	return SSL_set_session_id_context(ssl, identity, sizeof(identity));
}

/* Set for every context, because the second hello of a handshake is the chosen one's. */
static int on_hello(SSL *ssl, int *alert, void *argument)
{
	struct extra *extra = argument;
	struct tls_session *session = SSL_get_app_data(ssl);
	SSL_CTX *chosen = NULL;
	enum tls_hello hello = tls_hello_take(session);
	size_t bytes = session->name ? strlen(session->name) : 0;

	if (hello == TLS_HELLO_CHANGED) {
		*alert = SSL_AD_ILLEGAL_PARAMETER;
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (hello == TLS_HELLO_AGAIN || (hello == TLS_HELLO_FIRST && !extra->choose))
		return SSL_CLIENT_HELLO_SUCCESS;
	if (hello == TLS_HELLO_NO_NAME ||
	    !extra->choose(extra->argument, (const uint8_t *)session->name, bytes, &chosen)) {
		*alert = SSL_AD_UNRECOGNIZED_NAME;
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (chosen) {
		SSL_set_SSL_CTX(ssl, chosen);
		/* Not part of what a context hands over. */
		SSL_set_min_proto_version(ssl, SSL_CTX_get_min_proto_version(chosen));
		SSL_set_verify(ssl, SSL_CTX_get_verify_mode(chosen),
			       SSL_CTX_get_verify_callback(chosen));
		SSL_clear_options(ssl, SSL_OP_NO_TICKET);
		SSL_set_options(ssl, SSL_CTX_get_options(chosen) & SSL_OP_NO_TICKET);
	}
	if (bind_name(ssl, session->name) != 1) {
		*alert = SSL_AD_INTERNAL_ERROR;
		return SSL_CLIENT_HELLO_ERROR;
	}
	return SSL_CLIENT_HELLO_SUCCESS;
}

SSL_CTX *tls_server_context(int minimum, struct tls_ticket_keys *keys, const uint8_t *identity,
			    unsigned int identity_bytes)
{
	SSL_CTX *context = tls_context_plain(tls_library(), TLS_server_method());

	if (!context)
		return NULL;
	if (identity_bytes > IDENTITY_BYTES) {
		SSL_CTX_free(context);
		return NULL;
	}
	memcpy(extra_of(context)->identity, identity, identity_bytes);
	extra_of(context)->keys = keys;
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* Sent by tls_offer_ticket, in one piece with the first answer. */
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key);
	SSL_CTX_set_alpn_select_cb(context, select_protocol, NULL);
	SSL_CTX_set_client_hello_cb(context, on_hello, extra_of(context));
	if (SSL_CTX_set_min_proto_version(context, minimum) != 1 ||
	    SSL_CTX_set_session_id_context(context, identity, identity_bytes) != 1) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

static int use_chain(SSL_CTX *context, BIO *bio)
{
	X509 *certificate = tls_library_read_pem(bio);
	int result = certificate ? SSL_CTX_use_certificate(context, certificate) : 0;

	X509_free(certificate);
	if (result == 1)
		result = (int)SSL_CTX_clear_chain_certs(context);
	while (result == 1 && (certificate = tls_library_read_pem(bio))) {
		/* Takes the certificate over when it succeeds. */
		result = (int)SSL_CTX_add0_chain_cert(context, certificate);
		if (result != 1)
			X509_free(certificate);
	}
	if (result == 1)
		ERR_clear_error();
	return result == 1 ? 0 : -1;
}

int tls_context_use(SSL_CTX *context, const uint8_t *chain, size_t chain_bytes, const uint8_t *key,
		    size_t key_bytes)
{
	BIO *chain_bio = BIO_new_mem_buf(chain, (int)chain_bytes);
	BIO *key_bio = BIO_new_mem_buf(key, (int)key_bytes);
	EVP_PKEY *private_key = NULL;
	int result = -1;

	if (chain_bio && key_bio && !use_chain(context, chain_bio))
		private_key = tls_library_key(PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL));
	if (private_key && SSL_CTX_use_PrivateKey(context, private_key) == 1)
		result = 0;
	EVP_PKEY_free(private_key);
	BIO_free(key_bio);
	BIO_free(chain_bio);
	return result;
}

void tls_context_choose(SSL_CTX *context, tls_choose choose, void (*release)(void *argument),
			void *argument)
{
	struct extra *extra = extra_of(context);

	extra->choose = choose;
	extra->release = release;
	extra->argument = argument;
}

/* ---- clients ---- */

static const char *next(const char *name)
{
	return name + strlen(name) + 1;
}

static int has_uri(X509 *leaf, const struct extra *extra)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	int index, found = 0;

	for (index = 0; index < sk_GENERAL_NAME_num(names) && !found; index++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
		const char *wanted = extra->uris;
		size_t at;

		if (name->type != GEN_URI)
			continue;
		for (at = 0; at < extra->uris_count && !found; at++, wanted = next(wanted))
			found = (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier) ==
				    strlen(wanted) &&
				!memcmp(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
					wanted, strlen(wanted));
	}
	GENERAL_NAMES_free(names);
	return found;
}

static int is_wanted(X509 *leaf, const struct extra *extra)
{
	const char *host = extra->hosts;
	size_t at;

	for (at = 0; at < extra->hosts_count; at++, host = next(host))
		if (X509_check_host(leaf, host, 0, TLS_NAME_FLAGS, NULL) == 1)
			return 1;
	return extra->uris_count && has_uri(leaf, extra);
}

/* The chain first, then whom it names: any of the names will do. */
static int verify_peer(X509_STORE_CTX *store, void *argument)
{
	const struct extra *extra = argument;

	if (X509_verify_cert(store) != 1)
		return 0;
	if (is_wanted(X509_STORE_CTX_get0_cert(store), extra))
		return 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
	return 0;
}

/* A copy of `count` NUL-terminated texts. */
static char *copy(const char *texts, size_t count)
{
	const char *end = texts;
	size_t at;
	char *made;

	for (at = 0; at < count; at++)
		end = next(end);
	made = malloc((size_t)(end - texts) + 1);
	if (made)
		memcpy(made, texts, (size_t)(end - texts));
	return made;
}

SSL_CTX *tls_client_context(const char *hosts, size_t hosts_count, const char *uris,
			    size_t uris_count)
{
	SSL_CTX *context = tls_context_plain(tls_library(), TLS_client_method());
	struct extra *extra;

	if (!context)
		return NULL;
	extra = extra_of(context);
	extra->hosts = copy(hosts, hosts_count);
	extra->hosts_count = hosts_count;
	extra->uris = copy(uris, uris_count);
	extra->uris_count = uris_count;
	tls_context_keep_sessions(context);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(context, verify_peer, extra);
	if (!extra->hosts || !extra->uris ||
	    SSL_CTX_set_alpn_protos(context, protocols, sizeof(protocols) - 1)) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

int tls_context_trust(SSL_CTX *context, const uint8_t *bundle, size_t bytes)
{
	BIO *bio = BIO_new_mem_buf(bundle, (int)bytes);
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	X509 *certificate;
	int result = bio ? 0 : -1;

	while (bio && !result && (certificate = tls_library_read_pem(bio))) {
		if (X509_STORE_add_cert(store, certificate) != 1)
			result = -1;
		X509_free(certificate);
	}
	BIO_free(bio);
	if (!result)
		ERR_clear_error();
	return result;
}

int tls_context_trust_system(SSL_CTX *context)
{
	return SSL_CTX_set_default_verify_paths(context) == 1 ? 0 : -1;
}

void tls_context_free(SSL_CTX *context)
{
	SSL_CTX_free(context);
}
