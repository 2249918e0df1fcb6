/* The heads of CONNECTs and of their answers. A server looks for itself at what is asked: the
 * codec's own checks end in a reset, and nobody would be told why. Source: RFC 9113, sections 8.2
 * to 8.5. */
#include "hbone.h"

#include <stdlib.h>
#include <string.h>

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

/* Whether no request may hold this field (sections 8.2.1 and 8.3.1). */
static int is_malformed(struct hbone_stream *stream, int field, const uint8_t *name, size_t bytes)
{
	size_t at;

	if (!bytes)
		return 1;
	if (name[0] == ':')
		return stream->has_ordinary || field < 0 || stream->has_field[field];
	stream->has_ordinary = 1;
	for (at = 0; at < bytes; at++)
		if (name[at] <= ' ' || name[at] >= 127 || name[at] == ':' ||
		    (name[at] >= 'A' && name[at] <= 'Z'))
			return 1;
	return 0;
}

static int hear_field(struct hbone_stream *stream, const uint8_t *name, size_t name_bytes,
		      const uint8_t *value, size_t value_bytes, uint32_t most)
{
	int field = field_of(name, name_bytes);

	/* Trailers say nothing. */
	if (stream->is_heard)
		return 0;
	if (stream->header_bytes > most)
		stream->is_too_long = 1;
	if (is_malformed(stream, field, name, name_bytes))
		stream->is_malformed = 1;
	/* A field that stands there twice is not one that may be believed: the first counts. */
	if (field < 0 || stream->has_field[field] || stream->is_too_long)
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
	if (!stream)
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

static int is_connect(const struct hbone_stream *stream)
{
	return is_name((const uint8_t *)stream->text + stream->field_at[METHOD],
		       stream->field_bytes[METHOD], "CONNECT");
}

void hbone_heard(struct hbone_stream *stream)
{
	if (stream->is_server) {
		/* Of CONNECT alone nothing but the authority may be said (section 8.5). */
		if (!stream->has_field[METHOD] ||
		    (is_connect(stream) && !stream->has_field[PROTOCOL] &&
		     (stream->has_field[SCHEME] || stream->has_field[PATH])))
			stream->is_malformed = 1;
		if (!stream->is_heard)
			hbone_note(stream, HBONE_NEWS_OPENED);
		stream->is_heard = 1;
	} else if (stream->status >= 200) {
		hbone_note(stream, HBONE_NEWS_ANSWERED);
	} else {
		stream->status = 0;
	}
}
