/* Whose a peer's certificate is: the one URI of a leaf, held against the grammar of SPIFFE IDs
 * before anything believes it. Logs, metrics and x-forwarded-client-cert write it as it is. Source:
 * SPIFFE-ID standard, section 2; X509-SVID standard, sections 2 and 4.3. */
#include "context.h"

#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

static const char scheme[] = "spiffe://";
enum { SCHEME_BYTES = sizeof(scheme) - 1, ID_BYTES_MAX = 2048, DOMAIN_BYTES_MAX = 255 };

static int is_lower_or_digit(uint8_t byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
}

/* What both a trust domain and a segment may hold besides. */
static int is_mark(uint8_t byte)
{
	return byte == '.' || byte == '-' || byte == '_';
}

static int is_domain(const uint8_t *bytes, size_t count)
{
	size_t index;

	for (index = 0; index < count; index++)
		if (!is_lower_or_digit(bytes[index]) && !is_mark(bytes[index]))
			return 0;
	return count && count <= DOMAIN_BYTES_MAX;
}

/* Nothing is percent-decoded, and nothing stands for another segment. */
static int is_segment(const uint8_t *bytes, size_t count)
{
	size_t index;

	for (index = 0; index < count; index++) {
		uint8_t byte = bytes[index];

		if (!is_lower_or_digit(byte) && !(byte >= 'A' && byte <= 'Z') && !is_mark(byte))
			return 0;
	}
	return count && !(bytes[0] == '.' && (count == 1 || (count == 2 && bytes[1] == '.')));
}

/* A domain alone is an authority's name: a workload's has a path, which does not end in a slash. */
static int is_workload(const uint8_t *bytes, size_t count)
{
	const uint8_t *end = bytes + count, *slash;

	if (count <= SCHEME_BYTES || count > ID_BYTES_MAX || memcmp(bytes, scheme, SCHEME_BYTES))
		return 0;
	bytes += SCHEME_BYTES;
	slash = memchr(bytes, '/', (size_t)(end - bytes));
	if (!slash || !is_domain(bytes, (size_t)(slash - bytes)))
		return 0;
	while (slash) {
		bytes = slash + 1;
		slash = memchr(bytes, '/', (size_t)(end - bytes));
		if (!is_segment(bytes, (size_t)((slash ? slash : end) - bytes)))
			return 0;
	}
	return 1;
}

/* An authority is no workload, and what may sign certificates or lists is one. */
static int is_leaf(X509 *certificate)
{
	uint32_t usage = X509_get_key_usage(certificate);

	return !X509_check_ca(certificate) &&
	       (usage == UINT32_MAX || !(usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)));
}

char *tls_spiffe_id(X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	const ASN1_IA5STRING *uri = NULL;
	int index, count = 0;
	char *id = NULL;

	for (index = 0; index < sk_GENERAL_NAME_num(names); index++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);

		if (name->type != GEN_URI)
			continue;
		uri = name->d.uniformResourceIdentifier;
		count++;
	}
	if (count == 1 && is_leaf(leaf)) {
		size_t bytes = (size_t)ASN1_STRING_length(uri);

		if (is_workload(ASN1_STRING_get0_data(uri), bytes))
			id = strndup((const char *)ASN1_STRING_get0_data(uri), bytes);
	}
	GENERAL_NAMES_free(names);
	return id;
}
