/* The heads of CONNECTs and of their answers. A server looks for itself at what is asked: the
 * codec's own checks end in a reset, and nobody would be told why. At a client the codec looks.
 * Source: RFC 9113, sections 8.1 to 8.5. */
#include "hbone.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int is_name(const uint8_t *name, size_t bytes, const char *wanted)
{
	return bytes == strlen(wanted) && !memcmp(name, wanted, bytes);
}

static int field_of(const uint8_t *name, size_t bytes)
{
	static const char *const names[FIELDS] = {":method", ":authority", ":protocol", ":scheme",
						  ":path",   "forwarded",  "baggage"};
	int field;

	for (field = 0; field < FIELDS; field++)
		if (is_name(name, bytes, names[field]))
			return field;
	return -1;
}

static int keep_field(struct hbone_stream *stream, int field, const uint8_t *value, size_t bytes)
{
	char *text = realloc(stream->text, stream->text_bytes + bytes + 1);

	if (!text)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	stream->text = text;
	memcpy(text + stream->text_bytes, value, bytes);
	stream->field_at[field] = (uint32_t)stream->text_bytes;
	stream->field_bytes[field] = (uint32_t)bytes;
	stream->has_field[field] = 1;
	stream->text_bytes += bytes;
	return 0;
}

/* Those that are of one connection of HTTP/1 (section 8.2.2). */
static int is_of_connection(const uint8_t *name, size_t bytes, const uint8_t *value,
			    size_t value_bytes)
{
	static const char *const names[] = {"connection", "proxy-connection", "keep-alive",
					    "transfer-encoding", "upgrade"};
	size_t index;

	for (index = 0; index < sizeof(names) / sizeof(names[0]); index++)
		if (is_name(name, bytes, names[index]))
			return 1;
	return is_name(name, bytes, "te") &&
	       (value_bytes != 8 || strncasecmp((const char *)value, "trailers", 8) != 0);
}

/* Whether no request may hold this field (sections 8.2 and 8.3). */
static int is_malformed(struct hbone_stream *stream, int field, const uint8_t *name, size_t bytes,
			const uint8_t *value, size_t value_bytes)
{
	if (!nghttp2_check_header_name(name, bytes) ||
	    !nghttp2_check_header_value_rfc9113(value, value_bytes))
		return 1;
	if (name[0] == ':')
		return stream->has_ordinary || field < 0 || stream->has_field[field];
	stream->has_ordinary = 1;
	return is_of_connection(name, bytes, value, value_bytes);
}

static int hear_field(struct hbone_stream *stream, const uint8_t *name, size_t name_bytes,
		      const uint8_t *value, size_t value_bytes, uint32_t most)
{
	int field;

	if (stream->header_bytes > most)
		stream->is_too_long = 1;
	/* Nothing more is looked at: a few bytes of HPACK may stand for very many. */
	if (stream->is_too_long)
		return 0;
	field = field_of(name, name_bytes);
	if (is_malformed(stream, field, name, name_bytes, value, value_bytes))
		stream->is_malformed = 1;
	/* A field that stands there twice is not one that may be believed: the first counts. */
	if (field < 0 || stream->has_field[field])
		return 0;
	return keep_field(stream, field, value, value_bytes);
}

int hbone_hear(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
	       size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
	       void *argument)
{
	struct hbone_tunnel *tunnel = argument;
	struct hbone_stream *stream = hbone_find(session, frame->hd.stream_id);

	(void)flags;
	/* Trailers are a mistake as such (`hbone_heard`). */
	if (!stream || stream->is_heard)
		return 0;
	stream->header_bytes += name_bytes + value_bytes + 32;
	if (stream->is_server)
		return hear_field(stream, name, name_bytes, value, value_bytes,
				  tunnel->limits.header_bytes_max);
	if (stream->header_bytes > tunnel->limits.header_bytes_max)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (is_name(name, name_bytes, ":status") && value_bytes == 3)
		stream->status =
		    (int16_t)((value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'));
	return 0;
}

/* What of the pseudo-fields must be there and what must not (sections 8.3.1 and 8.5, RFC 8441). */
static int is_incomplete(const struct hbone_stream *stream)
{
	int is_connect = is_name((const uint8_t *)stream->text + stream->field_at[METHOD],
				 stream->field_bytes[METHOD], "CONNECT");

	if (!stream->has_field[METHOD])
		return 1;
	if (is_connect && !stream->has_field[PROTOCOL])
		return stream->has_field[SCHEME] || stream->has_field[PATH] ||
		       !stream->has_field[AUTHORITY];
	return !stream->has_field[SCHEME] || !stream->field_bytes[PATH];
}

int hbone_heard(struct hbone_stream *stream)
{
	if (stream->is_heard)
		return stream->is_server || stream->status < 300;
	if (stream->is_server) {
		if (is_incomplete(stream))
			stream->is_malformed = 1;
		stream->is_heard = 1;
		hbone_note(stream, HBONE_NEWS_OPENED);
	} else if (stream->status >= 200) {
		stream->is_heard = 1;
		hbone_note(stream, HBONE_NEWS_ANSWERED);
	} else {
		stream->status = 0;
	}
	return 0;
}
