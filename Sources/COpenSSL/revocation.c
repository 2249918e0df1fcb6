/* Revocation lists and issuers, by key. OpenSSL's own check takes a list by its issuer's name, so
 * that the list of another root of that name, or one that its authority did not sign, has every
 * certificate refused; and it verifies the list anew for each of them. */
#include "revocation.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

STACK_OF(X509_CRL) * tls_lists_read(const uint8_t *bytes, size_t count)
{
	STACK_OF(X509_CRL) *lists = sk_X509_CRL_new_null();
	const uint8_t *end = bytes + count;

	while (lists && bytes < end) {
		X509_CRL *list = d2i_X509_CRL(NULL, &bytes, end - bytes);

		if (list && sk_X509_CRL_push(lists, list) > 0)
			continue;
		X509_CRL_free(list);
		tls_lists_free(lists);
		return NULL;
	}
	return lists;
}

void tls_lists_free(STACK_OF(X509_CRL) * lists)
{
	sk_X509_CRL_pop_free(lists, X509_CRL_free);
}

int tls_list_is_signed(X509_CRL *list, X509 *authority)
{
	EVP_PKEY *key = X509_get0_pubkey(authority);
	int result;

	if (!key || X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(authority)) ||
	    !(X509_get_key_usage(authority) & KU_CRL_SIGN))
		return 0;
	ERR_set_mark();
	result = X509_CRL_verify(list, key) == 1;
	ERR_pop_to_mark();
	return result;
}

/* A signature is verified only where a serial is named: hardly ever. */
static int names(X509_CRL *list, X509 *certificate, X509 *issuer)
{
	X509_REVOKED *entry;

	return !X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_issuer_name(certificate)) &&
	       X509_CRL_get0_by_cert(list, &entry, certificate) == 1 &&
	       tls_list_is_signed(list, issuer);
}

int tls_is_revoked(const STACK_OF(X509) * chain, const STACK_OF(X509_CRL) * lists)
{
	int count = sk_X509_num(chain), index, list;

	for (index = 0; index < count; index++) {
		X509 *certificate = sk_X509_value(chain, index);
		/* An anchor that is no root: whoever signed it is not asked. */
		X509 *issuer = index + 1 < count ? sk_X509_value(chain, index + 1) : certificate;

		for (list = 0; list < sk_X509_CRL_num(lists); list++)
			if (names(sk_X509_CRL_value(lists, list), certificate, issuer))
				return 1;
	}
	return 0;
}

int tls_is_issued(X509_STORE_CTX *store, X509 *certificate, X509 *issuer)
{
	EVP_PKEY *key = X509_get0_pubkey(issuer);
	int result;

	(void)store;
	if (!key || X509_check_issued(issuer, certificate) != X509_V_OK)
		return 0;
	ERR_set_mark();
	result = X509_verify(certificate, key) == 1;
	ERR_pop_to_mark();
	return result;
}
