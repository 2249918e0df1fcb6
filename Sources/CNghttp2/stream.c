/* CONNECT streams as sessions: the list of those with news, what they send, how they begin and end.
 */
#include "hbone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list of news ---- */

void hbone_note(struct hbone_stream *stream, unsigned int news)
{
	struct hbone_tunnel *tunnel = stream->tunnel;

	stream->news |= (uint8_t)news;
	if (stream->is_listed || !tunnel || stream->is_orphan)
		return;
	stream->is_listed = 1;
	stream->next_news = NULL;
	*tunnel->news_end = stream;
	tunnel->news_end = &stream->next_news;
}

static void unlist(struct hbone_stream *stream)
{
	struct hbone_tunnel *tunnel = stream->tunnel;
	struct hbone_stream **at = &tunnel->news;

	while (*at != stream)
		at = &(*at)->next_news;
	*at = stream->next_news;
	if (tunnel->news_end == &stream->next_news)
		tunnel->news_end = at;
	stream->is_listed = 0;
}

struct hbone_stream *hbone_tunnel_next(struct hbone_tunnel *tunnel)
{
	struct hbone_stream *stream = tunnel->news;

	if (stream)
		unlist(stream);
	return stream;
}

/* ---- what came and was not read ---- */

static void charge(struct hbone_stream *stream, size_t bytes)
{
	if (stream->charged)
		*stream->charged += bytes;
	if (stream->total)
		*stream->total += bytes;
	if (stream->tunnel)
		stream->tunnel->held += bytes;
	stream->capacity += bytes;
}

/* Least blocks that no stream of this thread has now, so that streams that take turns need no
 * others. The first word of each leads to the next. */
static _Thread_local uint8_t *spares;
static _Thread_local unsigned int spare_count;

static uint8_t *take_block(size_t capacity)
{
	uint8_t *block = spares;

	if (capacity != BLOCK_BYTES || !block)
		return malloc(capacity);
	memcpy(&spares, block, sizeof(spares));
	spare_count--;
	return block;
}

static void give_block(uint8_t *block, size_t capacity)
{
	if (capacity != BLOCK_BYTES || spare_count == SPARES_MAX) {
		free(block);
		return;
	}
	memcpy(block, &spares, sizeof(spares));
	spares = block;
	spare_count++;
}

int hbone_stream_grow(struct hbone_stream *stream, size_t capacity)
{
	size_t unread = stream->end - stream->start;
	uint8_t *block = stream->bytes;

	if (capacity > stream->capacity)
		block = take_block(capacity);
	if (!block)
		return -1;
	if (unread)
		memmove(block, stream->bytes + stream->start, unread);
	if (block != stream->bytes) {
		if (stream->bytes)
			give_block(stream->bytes, stream->capacity);
		stream->bytes = block;
		charge(stream, capacity - stream->capacity);
	}
	stream->start = 0;
	stream->end = unread;
	return 0;
}

void hbone_stream_shrink(struct hbone_stream *stream)
{
	stream->start = stream->end = 0;
	if (!stream->bytes)
		return;
	give_block(stream->bytes, stream->capacity);
	stream->bytes = NULL;
	charge(stream, -stream->capacity);
}

void hbone_stream_charge(struct hbone_stream *stream, uint64_t *charged)
{
	if (stream->charged == charged)
		return;
	if (stream->charged)
		*stream->charged -= stream->capacity;
	*charged += stream->capacity;
	stream->charged = charged;
}

/* ---- what streams send ---- */

static ssize_t offer(nghttp2_session *session, int32_t id, uint8_t *unused, size_t room,
		     uint32_t *flags, nghttp2_data_source *source, void *argument)
{
	struct hbone_stream *stream = hbone_find(session, id);
	size_t count;

	(void)unused, (void)source, (void)argument;
	if (!stream)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	count = stream->first_count + stream->second_count;
	if (!count) {
		if (stream->is_ending) {
			*flags |= NGHTTP2_DATA_FLAG_EOF;
			return 0;
		}
		stream->is_deferred = 1;
		if (stream->is_blocked)
			hbone_note(stream, HBONE_NEWS_WRITABLE);
		return NGHTTP2_ERR_DEFERRED;
	}
	if (count > room)
		count = room;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	return (ssize_t)count;
}

static size_t take(uint8_t *to, const uint8_t **from, size_t *from_count, size_t wanted)
{
	size_t count = *from_count < wanted ? *from_count : wanted;

	if (count)
		memcpy(to, *from, count);
	*from += count;
	*from_count -= count;
	return count;
}

int hbone_send_frame(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
		     size_t count, nghttp2_data_source *source, void *argument)
{
	struct hbone_tunnel *tunnel = argument;
	struct hbone_stream *stream = hbone_find(session, frame->hd.stream_id);
	uint8_t *at = hbone_make_room(tunnel, 9 + count);
	size_t done;

	(void)source;
	if (!at || !stream)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (stream->first_at == UINT64_MAX)
		stream->first_at = tunnel->passed + hbone_held(tunnel);
	memcpy(at, header, 9);
	done = take(at + 9, &stream->first, &stream->first_count, count);
	take(at + 9 + done, &stream->second, &stream->second_count, count - done);
	tunnel->out_end += 9 + count;
	return 0;
}

ssize_t hbone_frame_room(nghttp2_session *session, uint8_t type, int32_t id, int32_t connection,
			 int32_t stream, uint32_t frame_max, void *argument)
{
	int64_t room = FRAME_BYTES_MAX;

	(void)session, (void)type, (void)id, (void)argument;
	if (room > connection)
		room = connection;
	if (room > stream)
		room = stream;
	if (room > (int64_t)frame_max)
		room = frame_max;
	return room;
}

static const nghttp2_data_provider provider = {.read_callback = offer};

/* Has the codec look again at a stream that had nothing to send. */
static void resume(struct hbone_stream *stream)
{
	stream->tunnel->has_work = 1;
	if (!stream->is_deferred)
		return;
	stream->is_deferred = 0;
	nghttp2_session_resume_data(stream->tunnel->session, stream->id);
}

/* ---- a stream as a session ---- */

static int do_handshake(struct engine_session *base)
{
	struct hbone_stream *stream = (struct hbone_stream *)base;

	if (stream->is_server)
		return stream->is_closed ? -1 : 1;
	if (stream->status)
		return stream->status < 300 ? 1 : -1;
	return stream->is_closed ? -1 : 0;
}

static ssize_t do_receive(struct engine_session *base, void *bytes, size_t room)
{
	struct hbone_stream *stream = (struct hbone_stream *)base;
	size_t count = stream->end - stream->start;

	base->is_drained = 0;
	if (!count) {
		if (stream->has_ended)
			return 0;
		if (stream->is_closed || !stream->tunnel)
			return -ECONNRESET;
		base->is_drained = 1;
		return -EAGAIN;
	}
	if (count > room)
		count = room;
	memcpy(bytes, stream->bytes + stream->start, count);
	stream->start += count;
	if (stream->start == stream->end) {
		hbone_stream_shrink(stream);
		base->is_drained = !stream->has_ended && !stream->is_closed;
	}
	hbone_consumed(stream, count);
	return (ssize_t)count;
}

static ssize_t do_send(struct engine_session *base, const void *a, size_t a_count, const void *b,
		       size_t b_count)
{
	struct hbone_stream *stream = (struct hbone_stream *)base;
	struct hbone_tunnel *tunnel = stream->tunnel;
	size_t room, taken, offered;

	if (!tunnel || stream->is_closed || stream->is_ending || tunnel->end)
		return -EPIPE;
	stream->is_blocked = 0;
	if (hbone_held(tunnel) >= tunnel->limits.outgoing_bytes_max) {
		tunnel->is_full = 1;
		stream->is_blocked = 1;
		return -EAGAIN;
	}
	room = tunnel->limits.outgoing_bytes_max - hbone_held(tunnel);
	if (!b)
		b_count = 0;
	offered = a_count + b_count;
	if (a_count > room)
		a_count = room;
	if (b_count > room - a_count)
		b_count = room - a_count;
	stream->first = a;
	stream->first_count = a_count;
	stream->second = b;
	stream->second_count = b_count;
	resume(stream);
	if (hbone_frame(tunnel))
		return -EPIPE;
	taken = a_count + b_count - stream->first_count - stream->second_count;
	if (stream->first_count + stream->second_count) {
		/* The peer's window. */
		stream->is_blocked = 1;
		stream->first_count = stream->second_count = 0;
	} else if (taken < offered) {
		/* What is held: more may be sent when it is gone. */
		tunnel->is_full = 1;
		stream->is_blocked = 1;
	}
	if (base->ends && !stream->is_blocked)
		stream->base.operations->end(base);
	if (!taken)
		return stream->is_closed ? -EPIPE : -EAGAIN;
	return (ssize_t)taken;
}

static void do_end(struct engine_session *base)
{
	struct hbone_stream *stream = (struct hbone_stream *)base;

	if (stream->is_ending || stream->is_closed || !stream->tunnel || stream->tunnel->end)
		return;
	stream->is_ending = 1;
	if (stream->is_server && !stream->is_answered)
		return;
	resume(stream);
	hbone_frame(stream->tunnel);
}

void hbone_forget(struct hbone_stream *stream)
{
	struct hbone_tunnel *tunnel = stream->tunnel;

	if (stream->is_listed)
		unlist(stream);
	if (stream->previous)
		stream->previous->next = stream->next;
	else
		tunnel->streams = stream->next;
	if (stream->next)
		stream->next->previous = stream->previous;
	tunnel->count--;
	tunnel->held -= stream->capacity;
	stream->tunnel = NULL;
}

void hbone_discard(struct hbone_stream *stream)
{
	hbone_stream_shrink(stream);
	if (stream->tunnel)
		hbone_forget(stream);
	free(stream->text);
	free(stream);
}

static void orphan(struct hbone_stream *stream)
{
	if (stream->is_listed)
		unlist(stream);
	stream->is_orphan = 1;
	stream->owner = 0;
	hbone_stream_shrink(stream);
	hbone_consumed(stream, 0);
	stream->tunnel->has_work = 1;
}

static void do_free(struct engine_session *base)
{
	struct hbone_stream *stream = (struct hbone_stream *)base;
	struct hbone_tunnel *tunnel = stream->tunnel;

	if (tunnel && !tunnel->end) {
		/* Its end waits for the peer's window, and a reset would overtake it. */
		if (!stream->is_closed && stream->is_ending && !stream->end_is_sent &&
		    !stream->is_broken && (!stream->is_server || stream->is_answered)) {
			orphan(stream);
			return;
		}
		if (!stream->is_closed) {
			nghttp2_submit_rst_stream(tunnel->session, NGHTTP2_FLAG_NONE, stream->id,
						  stream->is_ending && !stream->is_broken
						      ? NGHTTP2_NO_ERROR
						      : NGHTTP2_CANCEL);
			nghttp2_session_set_stream_user_data(tunnel->session, stream->id, NULL);
		}
		tunnel->has_work = 1;
	}
	hbone_discard(stream);
}

static const struct engine_session_operations operations = {
    .handshake = do_handshake,
    .receive = do_receive,
    .send = do_send,
    .end = do_end,
    .free = do_free,
};

struct hbone_stream *hbone_stream_new(struct hbone_tunnel *tunnel)
{
	struct hbone_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->base.operations = &operations;
	stream->tunnel = tunnel;
	stream->charged = tunnel->charged;
	stream->total = tunnel->total;
	stream->window = tunnel->limits.stream_window;
	stream->next = tunnel->streams;
	if (stream->next)
		stream->next->previous = stream;
	tunnel->streams = stream;
	tunnel->count++;
	return stream;
}

/* ---- opening and answering ---- */

static nghttp2_nv field(const char *name, const char *value)
{
	return (nghttp2_nv){
	    .name = (uint8_t *)name,
	    .value = (uint8_t *)value,
	    .namelen = strlen(name),
	    .valuelen = strlen(value),
	    .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME,
	};
}

struct hbone_stream *hbone_stream_open(struct hbone_tunnel *tunnel, const char *authority,
				       const char *forwarded, const char *baggage, uint64_t owner)
{
	nghttp2_nv fields[4];
	struct hbone_stream *stream;
	size_t count = 0;

	if (!hbone_tunnel_room(tunnel))
		return NULL;
	stream = hbone_stream_new(tunnel);
	if (!stream)
		return NULL;
	fields[count++] = field(":method", "CONNECT");
	fields[count++] = field(":authority", authority);
	if (forwarded)
		fields[count++] = field("forwarded", forwarded);
	if (baggage)
		fields[count++] = field("baggage", baggage);
	stream->owner = owner;
	stream->id =
	    nghttp2_submit_request(tunnel->session, NULL, fields, count, &provider, stream);
	if (stream->id < 0) {
		hbone_forget(stream);
		free(stream);
		return NULL;
	}
	tunnel->has_work = 1;
	return stream;
}

void hbone_stream_own(struct hbone_stream *stream, uint64_t owner)
{
	stream->owner = owner;
}

void hbone_stream_accept(struct hbone_stream *stream, uint64_t owner)
{
	const nghttp2_nv status = field(":status", "200");

	stream->owner = owner;
	stream->is_answered = 1;
	stream->status = 200;
	/* What was asked, up to `header_bytes_max`, is of no use any more. */
	free(stream->text);
	stream->text = NULL;
	memset(stream->has_field, 0, sizeof(stream->has_field));
	memset(stream->field_bytes, 0, sizeof(stream->field_bytes));
	if (!stream->tunnel || stream->is_closed)
		return;
	nghttp2_submit_response(stream->tunnel->session, stream->id, &status, 1, &provider);
	stream->tunnel->has_work = 1;
}

void hbone_stream_refuse(struct hbone_stream *stream, int code, int is_waste)
{
	char digits[4] = {(char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10),
			  (char)('0' + code % 10), 0};
	const nghttp2_nv status = field(":status", digits);
	struct hbone_tunnel *tunnel = stream->tunnel;

	if (tunnel && !stream->is_closed && !tunnel->end) {
		nghttp2_submit_response(tunnel->session, stream->id, &status, 1, NULL);
		if (is_waste)
			hbone_waste(tunnel);
		stream->is_ending = 1;
		hbone_frame(tunnel);
	}
	do_free(&stream->base);
}

struct engine_session *hbone_stream_session(struct hbone_stream *stream)
{
	return &stream->base;
}

unsigned int hbone_stream_news(struct hbone_stream *stream)
{
	unsigned int news = stream->news;

	stream->news = 0;
	return news;
}

uint64_t hbone_stream_owner(const struct hbone_stream *stream)
{
	return stream->owner;
}

int hbone_stream_status(const struct hbone_stream *stream)
{
	return stream->status;
}

int hbone_stream_is_cut(const struct hbone_stream *stream)
{
	int is_whole = stream->has_ended && (stream->end_is_sent || stream->is_over);

	return stream->is_closed && !is_whole;
}

int hbone_stream_is_mistaken(const struct hbone_stream *stream)
{
	return stream->is_mistaken;
}

void hbone_stream_break(struct hbone_stream *stream)
{
	stream->is_broken = 1;
}

void hbone_stream_mark(struct hbone_stream *stream)
{
	stream->first_at = UINT64_MAX;
}

int hbone_stream_is_unsent(const struct hbone_stream *stream)
{
	return stream->is_unsent || stream->first_at == UINT64_MAX;
}

int hbone_stream_is_untouched(const struct hbone_stream *stream)
{
	return stream->is_untouched;
}

static const char *text_of(const struct hbone_stream *stream, int field, size_t *bytes)
{
	*bytes = stream->field_bytes[field];
	return stream->has_field[field] ? stream->text + stream->field_at[field] : NULL;
}

struct hbone_request hbone_stream_request(const struct hbone_stream *stream)
{
	struct hbone_request request;

	request.method = text_of(stream, METHOD, &request.method_bytes);
	request.authority = text_of(stream, AUTHORITY, &request.authority_bytes);
	request.protocol = text_of(stream, PROTOCOL, &request.protocol_bytes);
	request.forwarded = text_of(stream, FORWARDED, &request.forwarded_bytes);
	request.baggage = text_of(stream, BAGGAGE, &request.baggage_bytes);
	request.is_malformed = stream->is_malformed;
	request.is_too_long = stream->is_too_long;
	return request;
}
