/* Whose signature stands under a certificate, and what authorities have revoked: one answer for
 * handshakes (mesh.c) and for the agent's own judgement (svid.c). */
#pragma once
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stddef.h>
#include <stdint.h>

/* Lists in DER, one behind another; NULL where one cannot be read. */
STACK_OF(X509_CRL) * tls_lists_read(const uint8_t *bytes, size_t count);
void tls_lists_free(STACK_OF(X509_CRL) * lists);
/* Whether `authority` has signed the list, and may. */
int tls_list_is_signed(X509_CRL *list, X509 *authority);
/* Whether a list names a certificate of a verified chain, which ends with its anchor. Every list
 * counts, whatever its dates, for the certificates of the authority whose key has signed it. */
int tls_is_revoked(const STACK_OF(X509) * chain, const STACK_OF(X509_CRL) * lists);
/* For X509_STORE_set_check_issued: tells roots of one name apart by their keys, at the price of a
 * signature. */
int tls_is_issued(X509_STORE_CTX *store, X509 *certificate, X509 *issuer);
