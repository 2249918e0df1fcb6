/* Private keys of workloads and authorities, and chains checked against a bundle. A key is made
 * in OpenSSL's secure heap and signs there; no call here answers its bytes. */
#pragma once
#include <openssl/types.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- the secure heap ---- */

/* Sets `bytes` (a power of two) of locked memory aside, once in a process and before the first key:
 * 1, or 2 where the memory could not be locked (RLIMIT_MEMLOCK), or 0 without any. */
int malla_secure_heap_open(size_t bytes);
/* Bytes of it in use. */
size_t malla_secure_heap_used(void);

/* ---- keys: NULL or -1 leaves OpenSSL's reason, which malla_svid_problem takes ---- */

enum malla_key_kind {
	MALLA_KEY_OTHER,
	MALLA_KEY_P256,
	MALLA_KEY_P384,
	MALLA_KEY_P521,
	MALLA_KEY_RSA,
	MALLA_KEY_ED25519,
};

/* A new P-256 key. */
EVP_PKEY *malla_key_new(void);
/* Reads PEM to the end of the file; only unencrypted keys. */
EVP_PKEY *malla_key_read(int descriptor);
/* From PKCS #8 in DER. The caller's bytes stay the caller's to wipe. */
EVP_PKEY *malla_key_from_der(const uint8_t *bytes, size_t count);
/* Writes PKCS #8 in PEM behind `heading`, which is text: 0, or -1. */
int malla_key_write(const EVP_PKEY *key, const char *heading, int descriptor);
void malla_key_free(EVP_PKEY *key);
enum malla_key_kind malla_key_kind(const EVP_PKEY *key);
/* SubjectPublicKeyInfo in DER; answers its bytes, or -1. */
ssize_t malla_key_public(const EVP_PKEY *key, uint8_t *out, size_t room);
/* Signs as X.509 does: with the digest of `digest_bits` (256, 384, 512; 0: none, for Ed25519),
 * ECDSA in DER, RSA as PKCS #1 v1.5. Answers the signature's bytes, or -1. */
ssize_t malla_key_sign(EVP_PKEY *key, int digest_bits, const uint8_t *bytes, size_t count,
		       uint8_t *out, size_t room);
/* Whether the certificate (DER) is of this key. */
int malla_key_matches(const EVP_PKEY *key, const uint8_t *certificate, size_t bytes);

/* ---- chains ---- */

enum malla_chain_result {
	MALLA_CHAIN_GOOD,
	MALLA_CHAIN_UNREADABLE,
	MALLA_CHAIN_UNTRUSTED,
	MALLA_CHAIN_EXPIRED,
	MALLA_CHAIN_NOT_YET,
	MALLA_CHAIN_REVOKED,
};

/* Whether `chain` (leaf first) leads to one of `roots` at `now`, seconds since 1970, and none of it
 * is revoked. All are DER, one behind another. A root need not be self-signed. An authority without
 * a list revokes nothing; a list counts whatever its dates, for whoever has signed it. */
enum malla_chain_result malla_chain_check(const uint8_t *chain, size_t chain_bytes,
					  const uint8_t *roots, size_t roots_bytes,
					  const uint8_t *lists, size_t lists_bytes, int64_t now);

enum malla_list_result {
	MALLA_LIST_GOOD,
	MALLA_LIST_UNREADABLE,
	MALLA_LIST_FOREIGN, /* none of the authorities has signed it, or may */
};

/* Whether one of `authorities` has signed a revocation list. All are DER, whatever their dates. */
enum malla_list_result malla_list_check(const uint8_t *list, size_t list_bytes,
					const uint8_t *authorities, size_t authorities_bytes);

/* The reason of the last failure on this thread, and forgets it. NUL-terminated. */
void malla_svid_problem(char *out, size_t room);
