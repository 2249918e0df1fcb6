/* Certificates and keys: reading PEM, judging what it holds. Used when the configuration changes.
 */
#include "malla_credential.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int refuse(struct malla_credential *out, const char *text)
{
	snprintf(out->problem, sizeof(out->problem), "%s", text);
	ERR_clear_error();
	return -1;
}

/* With OpenSSL's own words for what went wrong behind ours. */
static int refuse_because(struct malla_credential *out, const char *text)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	snprintf(out->problem, sizeof(out->problem), "%s (%s)", text,
		 reason ? reason : "no reason");
	ERR_clear_error();
	return -1;
}

/* Never asks a terminal: an encrypted key is refused. */
static int no_password(char *buffer, int size, int rwflag, void *argument)
{
	(void)buffer, (void)size, (void)rwflag, (void)argument;
	return -1;
}

static int64_t seconds(const ASN1_TIME *time)
{
	struct tm parts;

	if (!ASN1_TIME_to_tm(time, &parts))
		return 0;
	return (int64_t)timegm(&parts);
}

static void date(int64_t at, char *out, size_t room)
{
	time_t time = (time_t)at;
	struct tm parts;

	gmtime_r(&time, &parts);
	strftime(out, room, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

static int is_end_of_pem(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

static X509 *first_certificate(const uint8_t *chain, size_t bytes)
{
	BIO *bio = BIO_new_mem_buf(chain, (int)bytes);
	X509 *leaf = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	return leaf;
}

/* Counts the certificates; a broken one is a problem. */
static int count_certificates(const uint8_t *chain, size_t bytes, struct malla_credential *out)
{
	BIO *bio = BIO_new_mem_buf(chain, (int)bytes);
	int result = 0;

	ERR_clear_error();
	while (bio) {
		X509 *certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);

		if (!certificate)
			break;
		out->certificates++;
		X509_free(certificate);
	}
	if (!is_end_of_pem())
		result = refuse_because(out, "holds a certificate that cannot be read");
	else if (!out->certificates)
		result = refuse(out, "holds no PEM certificate");
	ERR_clear_error();
	BIO_free(bio);
	return result;
}

static int judge_dates(X509 *certificate, int64_t now, struct malla_credential *out)
{
	char text[32];

	out->not_before = seconds(X509_get0_notBefore(certificate));
	out->not_after = seconds(X509_get0_notAfter(certificate));
	if (out->not_after > now)
		return 0;
	date(out->not_after, text, sizeof(text));
	snprintf(out->problem, sizeof(out->problem), "the certificate expired at %s", text);
	return -1;
}

/* As a server would load them: key sizes and digests are judged by the security level too. */
static int judge_pair(X509 *leaf, EVP_PKEY *key, struct malla_credential *out)
{
	SSL_CTX *context;
	int result = 0;

	if (X509_check_private_key(leaf, key) != 1)
		return refuse(out, "the private key does not belong to the certificate");
	context = SSL_CTX_new(TLS_server_method());
	if (!context || SSL_CTX_use_certificate(context, leaf) != 1 ||
	    SSL_CTX_use_PrivateKey(context, key) != 1)
		result = refuse_because(out, "the certificate cannot serve TLS");
	SSL_CTX_free(context);
	return result;
}

int malla_credential_check(const uint8_t *chain, size_t chain_bytes, const uint8_t *key,
			   size_t key_bytes, int64_t now, struct malla_credential *out)
{
	BIO *bio;
	EVP_PKEY *private_key;
	X509 *leaf;
	int result;

	memset(out, 0, sizeof(*out));
	if (count_certificates(chain, chain_bytes, out))
		return -1;
	bio = BIO_new_mem_buf(key, (int)key_bytes);
	private_key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	BIO_free(bio);
	if (!private_key)
		return refuse(out, "holds no unencrypted PEM private key");
	leaf = first_certificate(chain, chain_bytes);
	result = leaf ? judge_pair(leaf, private_key, out) : -1;
	if (leaf && !result)
		result = judge_dates(leaf, now, out);
	X509_free(leaf);
	EVP_PKEY_free(private_key);
	ERR_clear_error();
	return result;
}

int malla_authorities_check(const uint8_t *bundle, size_t bytes, int64_t now,
			    struct malla_credential *out)
{
	BIO *bio;
	X509 *certificate;
	int usable = 0;

	memset(out, 0, sizeof(*out));
	if (count_certificates(bundle, bytes, out))
		return -1;
	bio = BIO_new_mem_buf(bundle, (int)bytes);
	while (bio && (certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
		if (!judge_dates(certificate, now, out))
			usable++;
		X509_free(certificate);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (!usable)
		return -1;
	out->problem[0] = 0;
	return 0;
}

int64_t malla_credential_expiry(const uint8_t *chain, size_t bytes)
{
	BIO *bio = BIO_new_mem_buf(chain, (int)bytes);
	X509 *certificate;
	int64_t first = 0;
	int count = 0;

	while (bio && (certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
		int64_t at = seconds(X509_get0_notAfter(certificate));
		int is_root = count++ && !X509_NAME_cmp(X509_get_subject_name(certificate),
							X509_get_issuer_name(certificate));

		/* Clients have roots of their own. */
		if (!is_root && (!first || at < first))
			first = at;
		X509_free(certificate);
	}
	BIO_free(bio);
	ERR_clear_error();
	return first;
}

int64_t malla_credential_begin(const uint8_t *chain, size_t bytes)
{
	BIO *bio = BIO_new_mem_buf(chain, (int)bytes);
	X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
	int64_t begin = certificate ? seconds(X509_get0_notBefore(certificate)) : 0;

	X509_free(certificate);
	BIO_free(bio);
	ERR_clear_error();
	return begin;
}

static size_t put(const char *text, size_t length, char *out, size_t used, size_t room)
{
	/* A name with a line feed or a NUL is nobody's. */
	if (!length || memchr(text, '\n', length) || memchr(text, 0, length))
		return used;
	if (used + length + 1 > room)
		return used;
	memcpy(out + used, text, length);
	out[used + length] = '\n';
	return used + length + 1;
}

size_t malla_credential_names(const uint8_t *chain, size_t bytes, char *out, size_t room)
{
	X509 *leaf = first_certificate(chain, bytes);
	GENERAL_NAMES *names;
	size_t used = 0;
	int index, common;

	if (!leaf) {
		ERR_clear_error();
		return 0;
	}
	names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	for (index = 0; index < sk_GENERAL_NAME_num(names); index++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);

		if (name->type == GEN_DNS)
			used = put((const char *)ASN1_STRING_get0_data(name->d.dNSName),
				   (size_t)ASN1_STRING_length(name->d.dNSName), out, used, room);
	}
	common = names
		     ? -1
		     : X509_NAME_get_index_by_NID(X509_get_subject_name(leaf), NID_commonName, -1);
	if (common >= 0) {
		const ASN1_STRING *text = X509_NAME_ENTRY_get_data(
		    X509_NAME_get_entry(X509_get_subject_name(leaf), common));

		used = put((const char *)ASN1_STRING_get0_data(text),
			   (size_t)ASN1_STRING_length(text), out, used, room);
	}
	GENERAL_NAMES_free(names);
	X509_free(leaf);
	ERR_clear_error();
	return used;
}
