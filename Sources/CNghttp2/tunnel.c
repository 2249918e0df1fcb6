/* A tunnel over libnghttp2. Its callbacks only note what is new: they never send, and never call
 * the engine. */
#define _GNU_SOURCE
#include "hbone.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* ---- bytes to the connection below ---- */

uint8_t *hbone_make_room(struct hbone_tunnel *tunnel, size_t count)
{
	size_t capacity = tunnel->out_capacity ? tunnel->out_capacity : 16 * 1024;
	uint8_t *block;

	if (tunnel->out_capacity - tunnel->out_end >= count)
		return tunnel->out + tunnel->out_end;
	if (tunnel->out_start) {
		memmove(tunnel->out, tunnel->out + tunnel->out_start, hbone_held(tunnel));
		tunnel->out_end -= tunnel->out_start;
		tunnel->out_start = 0;
	}
	while (capacity - tunnel->out_end < count)
		capacity *= 2;
	if (capacity == tunnel->out_capacity)
		return tunnel->out + tunnel->out_end;
	block = realloc(tunnel->out, capacity);
	if (!block)
		return NULL;
	tunnel->out = block;
	tunnel->out_capacity = capacity;
	return tunnel->out + tunnel->out_end;
}

static int queue(struct hbone_tunnel *tunnel, const uint8_t *bytes, size_t count)
{
	uint8_t *at = hbone_make_room(tunnel, count);

	if (!at)
		return -1;
	memcpy(at, bytes, count);
	tunnel->out_end += count;
	return 0;
}

/* The end of the tunnel is news to all its streams. */
static int finish(struct hbone_tunnel *tunnel, enum hbone_end end)
{
	struct hbone_stream *stream;

	if (tunnel->end)
		return -1;
	if (end == HBONE_END_CLOSED && tunnel->is_wronged)
		end = HBONE_END_PROTOCOL;
	if (end == HBONE_END_PROTOCOL && tunnel->is_rushed)
		end = HBONE_END_FLOOD;
	tunnel->end = (uint8_t)end;
	for (stream = tunnel->streams; stream; stream = stream->next) {
		stream->is_closed = 1;
		stream->is_unsent = stream->first_at >= tunnel->offered;
		hbone_note(stream, HBONE_NEWS_RESET | HBONE_NEWS_READABLE);
	}
	return -1;
}

int hbone_frame(struct hbone_tunnel *tunnel)
{
	const uint8_t *bytes;
	ssize_t count;

	tunnel->has_work = 0;
	while ((count = nghttp2_session_mem_send(tunnel->session, &bytes)) > 0)
		if (queue(tunnel, bytes, (size_t)count))
			return finish(tunnel, HBONE_END_MEMORY);
	if (count < 0)
		return finish(tunnel,
			      count == NGHTTP2_ERR_NOMEM ? HBONE_END_MEMORY : HBONE_END_PROTOCOL);
	return tunnel->is_flooded ? finish(tunnel, HBONE_END_FLOOD) : 0;
}

int hbone_tunnel_is_full(const struct hbone_tunnel *tunnel)
{
	return hbone_held(tunnel) >=
	       (size_t)tunnel->limits.outgoing_bytes_max + tunnel->limits.answers_bytes_max;
}

int hbone_tunnel_is_choked(const struct hbone_tunnel *tunnel)
{
	return nghttp2_session_get_remote_window_size(tunnel->session) < 16 * 1024;
}

int hbone_tunnel_is_busy(struct hbone_tunnel *tunnel, uint64_t now, uint64_t most)
{
	double bytes = (double)(tunnel->moved - tunnel->moved_before);
	uint64_t elapsed = now - tunnel->looked_at;

	if (!tunnel->looked_at || elapsed >= 100000000) {
		tunnel->is_busy = tunnel->looked_at && bytes * 1e9 > (double)most * (double)elapsed;
		tunnel->moved_before = tunnel->moved;
		tunnel->looked_at = now;
	}
	return tunnel->is_busy;
}

static void limit(struct hbone_tunnel *tunnel, struct hbone_rate *rate, uint32_t most)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (rate->second != now.tv_sec)
		rate->count = 0;
	rate->second = now.tv_sec;
	if (++rate->count > most)
		tunnel->is_flooded = 1;
}

void hbone_waste(struct hbone_tunnel *tunnel)
{
	limit(tunnel, &tunnel->wasted, tunnel->limits.resets_max);
}

static ssize_t push(struct hbone_tunnel *tunnel)
{
	const uint8_t *bytes = tunnel->out + tunnel->out_start;
	ssize_t sent;

	if (tunnel->below)
		return engine_session_send(tunnel->below, bytes, hbone_held(tunnel), NULL, 0);
	do
		sent = send(tunnel->fd, bytes, hbone_held(tunnel), MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

int hbone_tunnel_flush(struct hbone_tunnel *tunnel)
{
	struct hbone_stream *stream;

	if (tunnel->end)
		return -1;
	if (tunnel->has_work && hbone_frame(tunnel))
		return -1;
	while (hbone_held(tunnel)) {
		ssize_t sent = push(tunnel);

		/* A call that fails has sent nothing, but where memory for what is left over
		 * failed. */
		if (sent >= 0 || sent == -EAGAIN || sent == -ENOMEM)
			tunnel->offered = tunnel->passed + hbone_held(tunnel);
		if (sent == -EAGAIN)
			return 0;
		if (sent < 0)
			return finish(tunnel, HBONE_END_BROKEN);
		tunnel->moved += (uint64_t)sent;
		if (tunnel->sent)
			*tunnel->sent += (uint64_t)sent;
		tunnel->passed += (uint64_t)sent;
		tunnel->out_start += (size_t)sent;
	}
	tunnel->out_start = tunnel->out_end = 0;
	if (tunnel->is_full) {
		tunnel->is_full = 0;
		for (stream = tunnel->streams; stream; stream = stream->next)
			if (stream->is_blocked)
				hbone_note(stream, HBONE_NEWS_WRITABLE);
	}
	if (!nghttp2_session_want_read(tunnel->session) &&
	    !nghttp2_session_want_write(tunnel->session))
		return finish(tunnel, HBONE_END_CLOSED);
	return 1;
}

int hbone_tunnel_wants_flush(const struct hbone_tunnel *tunnel)
{
	return !tunnel->end && (tunnel->has_work || hbone_held(tunnel));
}

/* ---- streams in the codec's callbacks ---- */

struct hbone_stream *hbone_find(nghttp2_session *session, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(session, id) : NULL;
}

static int on_bytes(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
		    size_t count, void *argument)
{
	struct hbone_tunnel *tunnel = argument;
	struct hbone_stream *stream = hbone_find(session, id);

	(void)flags;
	/* The connection's room is not for streams to use up: each is bounded by its own. */
	nghttp2_session_consume_connection(session, count);
	tunnel->has_work = 1;
	if (!stream || stream->is_given_up)
		return 0;
	if (stream->is_orphan) {
		hbone_consumed(stream, count);
		return 0;
	}
	if (stream->capacity - stream->end < count) {
		size_t unread = stream->end - stream->start;
		size_t capacity = stream->capacity ? stream->capacity : BLOCK_BYTES;

		/* No more than the window allows: the codec has seen to it. */
		while (capacity < unread + count)
			capacity *= 2;
		if (hbone_stream_grow(stream, capacity))
			return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	memcpy(stream->bytes + stream->end, bytes, count);
	stream->end += count;
	hbone_note(stream, HBONE_NEWS_READABLE);
	return 0;
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *argument)
{
	struct hbone_tunnel *tunnel = argument;
	struct hbone_stream *stream;

	if (!tunnel->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	stream = hbone_stream_new(tunnel);
	if (!stream)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	stream->id = frame->hd.stream_id;
	stream->is_server = 1;
	return nghttp2_session_set_stream_user_data(session, stream->id, stream)
		   ? NGHTTP2_ERR_CALLBACK_FAILURE
		   : 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *argument)
{
	struct hbone_tunnel *tunnel = argument;
	struct hbone_stream *stream = hbone_find(session, frame->hd.stream_id);

	switch (frame->hd.type) {
	case NGHTTP2_SETTINGS:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			break;
		tunnel->has_settings = 1;
		limit(tunnel, &tunnel->settings, SETTINGS_MAX);
		break;
	case NGHTTP2_GOAWAY:
		tunnel->is_draining = 1;
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			tunnel->pings++;
		break;
	case NGHTTP2_HEADERS:
		if (!stream || !hbone_heard(stream))
			break;
		/* Trailers: a tunnel has none (RFC 9113 section 8.5), and END_STREAM there is no
		 * end that may be believed. */
		stream->is_given_up = stream->is_mistaken = 1;
		tunnel->has_work = 1;
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
						 NGHTTP2_PROTOCOL_ERROR);
	default:
		break;
	}
	if (stream && !stream->is_given_up && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
		stream->has_ended = 1;
		hbone_note(stream, HBONE_NEWS_READABLE);
	}
	/* Acknowledgements and window updates. */
	tunnel->has_work = 1;
	/* What else has come at once is not looked at. */
	return tunnel->is_flooded ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A stream that the codec resets because its peer does not keep to the rules. What we give up is
 * CANCEL or NO_ERROR, and a stream too many may be one that did not know of the limit yet. */
static int is_mistake(const nghttp2_frame *frame)
{
	uint32_t code = frame->rst_stream.error_code;

	return frame->hd.type == NGHTTP2_RST_STREAM && code != NGHTTP2_NO_ERROR &&
	       code != NGHTTP2_CANCEL && code != NGHTTP2_REFUSED_STREAM;
}

/* A GOAWAY of the codec's. INTERNAL_ERROR is a server's limit of resets: the streams that are open
 * go on. */
static void note_goaway(struct hbone_tunnel *tunnel, uint32_t code)
{
	if (code == NGHTTP2_NO_ERROR)
		return;
	tunnel->is_wronged = 1;
	if (tunnel->is_server && code == NGHTTP2_INTERNAL_ERROR)
		tunnel->is_rushed = tunnel->drains = 1;
}

/* The end of an orphan is framed: what its peer still sends is for nobody. */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *argument)
{
	struct hbone_tunnel *tunnel = argument;
	struct hbone_stream *stream = hbone_find(session, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_GOAWAY)
		note_goaway(tunnel, frame->goaway.error_code);
	if (is_mistake(frame)) {
		hbone_waste(tunnel);
		if (stream)
			stream->is_mistaken = 1;
	}
	if (!stream || frame->hd.type != NGHTTP2_DATA ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	stream->end_is_sent = 1;
	if (stream->is_orphan && !stream->has_ended)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *argument)
{
	struct hbone_stream *stream = hbone_find(session, id);

	(void)argument;
	if (!stream)
		return 0;
	stream->is_closed = 1;
	stream->is_untouched = code == NGHTTP2_REFUSED_STREAM && !stream->status;
	stream->is_over = code == NGHTTP2_NO_ERROR;
	if (stream->is_orphan) {
		nghttp2_session_set_stream_user_data(session, id, NULL);
		hbone_discard(stream);
		return 0;
	}
	hbone_note(stream, HBONE_NEWS_RESET | HBONE_NEWS_READABLE);
	return 0;
}

/* ---- tunnels ---- */

static nghttp2_session_callbacks *callbacks;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
	if (nghttp2_session_callbacks_new(&callbacks))
		return;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, hbone_hear);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_bytes);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, hbone_send_frame);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, hbone_frame_room);
}

static int open_session(struct hbone_tunnel *tunnel)
{
	nghttp2_option *option;
	int result;

	if (nghttp2_option_new(&option))
		return -1;
	/* The engine says what it has read. */
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	/* A server looks for itself at what is asked, so that it can answer. */
	nghttp2_option_set_no_http_messaging(option, tunnel->is_server);
	nghttp2_option_set_stream_reset_rate_limit(option, tunnel->limits.resets_max,
						   tunnel->limits.resets_max);
	result = tunnel->is_server
		     ? nghttp2_session_server_new2(&tunnel->session, callbacks, tunnel, option)
		     : nghttp2_session_client_new2(&tunnel->session, callbacks, tunnel, option);
	nghttp2_option_del(option);
	return result ? -1 : 0;
}

static int say_settings(struct hbone_tunnel *tunnel)
{
	const nghttp2_settings_entry entries[] = {
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, tunnel->limits.stream_window},
	    {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_BYTES_MAX},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, tunnel->limits.header_bytes_max},
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, tunnel->limits.streams_max},
	};
	size_t count = sizeof(entries) / sizeof(entries[0]);

	/* A client takes no streams, so it need not say how many; a server cannot be pushed to. */
	if (nghttp2_submit_settings(tunnel->session, NGHTTP2_FLAG_NONE, entries,
				    tunnel->is_server ? count : count - 1))
		return -1;
	return nghttp2_session_set_local_window_size(tunnel->session, NGHTTP2_FLAG_NONE, 0,
						     (int32_t)tunnel->limits.connection_window)
		   ? -1
		   : 0;
}

struct hbone_tunnel *hbone_tunnel_new(struct engine_session *below, int fd, int is_server,
				      const struct hbone_limits *limits)
{
	struct hbone_tunnel *tunnel = calloc(1, sizeof(*tunnel));

	pthread_once(&once, prepare);
	if (!tunnel || !callbacks) {
		free(tunnel);
		return NULL;
	}
	tunnel->below = below;
	tunnel->fd = fd;
	tunnel->is_server = is_server != 0;
	tunnel->limits = *limits;
	tunnel->news_end = &tunnel->news;
	if (open_session(tunnel) || say_settings(tunnel)) {
		hbone_tunnel_free(tunnel);
		return NULL;
	}
	tunnel->has_work = 1;
	return tunnel;
}

void hbone_tunnel_free(struct hbone_tunnel *tunnel)
{
	struct hbone_stream *stream;

	if (!tunnel)
		return;
	while ((stream = tunnel->streams)) {
		if (stream->is_orphan || (stream->is_server && !stream->owner)) {
			stream->is_closed = 1;
			engine_session_free(&stream->base);
			continue;
		}
		hbone_forget(stream);
		stream->is_closed = 1;
	}
	nghttp2_session_del(tunnel->session);
	free(tunnel->out);
	free(tunnel);
}

static enum hbone_end end_of(const struct hbone_tunnel *tunnel, int error)
{
	if (tunnel->is_flooded)
		return HBONE_END_FLOOD;
	switch (error) {
	case NGHTTP2_ERR_FLOODED:
	case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
		return HBONE_END_FLOOD;
	case NGHTTP2_ERR_NOMEM:
	case NGHTTP2_ERR_CALLBACK_FAILURE:
		return HBONE_END_MEMORY;
	default:
		return HBONE_END_PROTOCOL;
	}
}

int hbone_tunnel_receive(struct hbone_tunnel *tunnel, uint8_t *scratch, size_t room)
{
	ssize_t count, used;

	if (tunnel->end)
		return -1;
	if (tunnel->below) {
		count = engine_session_receive(tunnel->below, scratch, room);
	} else {
		do
			count = recv(tunnel->fd, scratch, room, 0);
		while (count < 0 && errno == EINTR);
		count = count < 0 ? -errno : count;
	}
	if (count == -EAGAIN)
		return 0;
	if (count <= 0)
		return finish(tunnel,
			      count || tunnel->streams ? HBONE_END_BROKEN : HBONE_END_CLOSED);
	tunnel->moved += (uint64_t)count;
	if (tunnel->received)
		*tunnel->received += (uint64_t)count;
	used = nghttp2_session_mem_recv(tunnel->session, scratch, (size_t)count);
	tunnel->has_work = 1;
	if (used < 0)
		return finish(tunnel, end_of(tunnel, (int)used));
	/* A GOAWAY of our own over the peer's mistake is still to be sent. */
	if (!nghttp2_session_want_read(tunnel->session)) {
		hbone_tunnel_flush(tunnel);
		return finish(tunnel, tunnel->is_draining ? HBONE_END_CLOSED : HBONE_END_PROTOCOL);
	}
	return tunnel->below ? !tunnel->below->is_drained : (size_t)count == room;
}

void hbone_tunnel_abort(struct hbone_tunnel *tunnel)
{
	struct hbone_stream *stream;

	finish(tunnel, HBONE_END_BROKEN);
	/* Also to those who have heard of an earlier end. */
	for (stream = tunnel->streams; stream; stream = stream->next)
		hbone_note(stream, HBONE_NEWS_RESET | HBONE_NEWS_READABLE);
}

enum hbone_end hbone_tunnel_end(const struct hbone_tunnel *tunnel)
{
	return tunnel->end;
}

void hbone_tunnel_charge(struct hbone_tunnel *tunnel, uint64_t *charged, uint64_t *total)
{
	tunnel->charged = charged;
	tunnel->total = total;
}

void hbone_tunnel_count(struct hbone_tunnel *tunnel, uint64_t *received, uint64_t *sent)
{
	tunnel->received = received;
	tunnel->sent = sent;
}

int hbone_tunnel_relieve(struct hbone_tunnel *tunnel)
{
	struct hbone_stream *stream, *most = NULL;

	for (stream = tunnel->streams; stream; stream = stream->next)
		if (stream->capacity > (most ? most->capacity : 0))
			most = stream;
	if (!most || tunnel->end)
		return 0;
	hbone_stream_shrink(most);
	/* What is incomplete must not look complete. */
	most->has_ended = 0;
	most->is_given_up = 1;
	if (most->is_closed)
		hbone_note(most, HBONE_NEWS_RESET | HBONE_NEWS_READABLE);
	else
		nghttp2_submit_rst_stream(tunnel->session, NGHTTP2_FLAG_NONE, most->id,
					  NGHTTP2_CANCEL);
	tunnel->has_work = 1;
	return 1;
}

size_t hbone_tunnel_held(const struct hbone_tunnel *tunnel)
{
	return tunnel->held;
}

uint32_t hbone_tunnel_streams(const struct hbone_tunnel *tunnel)
{
	return tunnel->count;
}

uint32_t hbone_tunnel_room(const struct hbone_tunnel *tunnel)
{
	uint32_t most = STREAMS_BEFORE_SETTINGS;

	if (tunnel->end || tunnel->is_draining || tunnel->drains ||
	    !nghttp2_session_check_request_allowed(tunnel->session))
		return 0;
	if (tunnel->has_settings)
		most = nghttp2_session_get_remote_settings(tunnel->session,
							   NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	return tunnel->count < most ? most - tunnel->count : 0;
}

void hbone_tunnel_drain(struct hbone_tunnel *tunnel)
{
	if (tunnel->drains || tunnel->end)
		return;
	tunnel->drains = 1;
	tunnel->has_work = 1;
	nghttp2_submit_goaway(tunnel->session, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(tunnel->session),
			      NGHTTP2_NO_ERROR, NULL, 0);
}

int hbone_tunnel_is_draining(const struct hbone_tunnel *tunnel)
{
	return tunnel->is_draining || tunnel->drains;
}

void hbone_tunnel_ping(struct hbone_tunnel *tunnel)
{
	if (tunnel->end)
		return;
	tunnel->has_work = 1;
	nghttp2_submit_ping(tunnel->session, NGHTTP2_FLAG_NONE, NULL);
}

uint32_t hbone_tunnel_pings(const struct hbone_tunnel *tunnel)
{
	return tunnel->pings;
}
