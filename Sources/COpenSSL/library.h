/* The part of OpenSSL that handshakes look their methods up in. */
#pragma once
#include <openssl/bio.h>
#include <openssl/types.h>
#include <stdint.h>

/* For every function that takes a library context. NULL is OpenSSL's own: where the operator has it
 * prefer another provider than the default one, and where a method is missing. Any thread. */
OSSL_LIB_CTX *tls_library(void);
/* The context that has the key, of its only copy: an EC key that tls_library_key has answered is in
 * that one, every other key in OpenSSL's own (NULL). */
OSSL_LIB_CTX *tls_library_of(const EVP_PKEY *key);
/* Moves an EC key there: takes `key` over. Others, and NULL, stay as they are; NULL where the key
 * cannot be moved. */
EVP_PKEY *tls_library_key(EVP_PKEY *key);
/* d2i_X509(3) and PEM_read_bio_X509(3) in that context. */
X509 *tls_library_read(const uint8_t **bytes, long count);
X509 *tls_library_read_pem(BIO *bio);
