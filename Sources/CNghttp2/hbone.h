/* What the files of this module share. */
#pragma once
#include <nghttp2/nghttp2.h>

#include "malla_hbone.h"

/* The largest DATA frame that we make: what the wire of a worker seals at once. */
enum { FRAME_BYTES_MAX = 64 * 1024 };
/* Before the peer's settings have come, it must take this many streams (RFC 9113 section 6.5.2). */
enum { STREAMS_BEFORE_SETTINGS = 100 };
/* Settings that a peer may change within a second: each is applied to all its streams. */
enum { SETTINGS_MAX = 32 };
/* The least block of a stream, and how many a thread keeps. */
enum { BLOCK_BYTES = 16 * 1024, SPARES_MAX = 128 };

enum { METHOD, AUTHORITY, PROTOCOL, SCHEME, PATH, FORWARDED, BAGGAGE, FIELDS };

/* How often something has come in one second (CLOCK_MONOTONIC). */
struct hbone_rate {
	uint32_t count;
	int64_t second;
};

struct hbone_stream {
	struct engine_session base;
	struct hbone_tunnel *tunnel; /* NULL: the tunnel has ended */
	struct hbone_stream *next, *previous;
	struct hbone_stream *next_news;
	uint64_t owner;
	int32_t id;
	int16_t status;
	uint8_t news;
	uint8_t is_listed; /* among those with news */
	uint8_t is_server;
	uint8_t is_answered;  /* a server's: accepted */
	uint8_t is_untouched; /* the peer saw nothing of it */
	uint8_t has_ended;    /* the peer sent END_STREAM */
	uint8_t is_ending;    /* we shall, behind what is taken */
	uint8_t is_closed;    /* nothing more can be sent */
	uint8_t is_over;      /* closed by NO_ERROR: what came is whole (RFC 9113 section 8.1) */
	uint8_t is_broken;    /* what was sent is not: its end is a reset */
	uint8_t is_deferred;  /* the codec has nothing to send and waits for `resume` */
	uint8_t is_blocked;   /* a `send` was answered by -EAGAIN */
	uint8_t end_is_sent;  /* END_STREAM is framed */
	uint8_t is_orphan;    /* nobody's: it stays until its END_STREAM is framed */
	uint8_t is_given_up;  /* we reset it: what still comes is for nobody */
	uint8_t is_mistaken;  /* because its peer does not keep to the rules */

	/* What came and was not read, and whom the block is charged to. */
	uint8_t *bytes;
	size_t start, end, capacity;
	uint64_t *charged, *total;

	/* Bytes that may be under way or wait to be read, those read since `read_since` (ns). */
	uint32_t window;
	size_t read_count;
	int64_t read_since;

	/* Where among the tunnel's bytes the first frame since `hbone_stream_mark` begins;
	 * UINT64_MAX: there is none. */
	uint64_t first_at;
	uint8_t is_unsent; /* the tunnel has ended, and that frame had not left */

	/* What the `send` under way offers. */
	const uint8_t *first, *second;
	size_t first_count, second_count;

	/* A server's: the request's fields, one behind another. */
	char *text;
	size_t text_bytes, header_bytes;
	uint32_t field_at[FIELDS], field_bytes[FIELDS];
	uint8_t has_field[FIELDS];
	uint8_t has_ordinary; /* one that is no pseudo-field */
	uint8_t is_heard;     /* its head has come whole */
	uint8_t is_malformed, is_too_long;
};

struct hbone_tunnel {
	struct engine_session *below;
	int fd;
	nghttp2_session *session;
	struct hbone_limits limits;
	struct hbone_stream *streams;
	struct hbone_stream *news, **news_end;
	uint32_t count;
	uint32_t pings;
	uint8_t is_server;
	uint8_t has_settings;
	uint8_t is_draining; /* the peer */
	uint8_t drains;	     /* we */
	uint8_t is_full;     /* a stream was sent away because of `outgoing_bytes_max` */
	uint8_t has_work;    /* the codec may have something to send */
	uint8_t is_flooded;  /* a limit of what may come within a second is used up */
	uint8_t is_rushed;   /* the codec says so of resets, and takes no new streams */
	uint8_t is_wronged;  /* we have said GOAWAY because the peer does not keep to the rules */
	uint8_t end;

	/* Bytes of blocks that its streams hold, and whom those of new streams are charged to. */
	size_t held;
	uint64_t *charged, *total;
	/* Where bytes from the connection below and to it are counted; NULL: nowhere. */
	uint64_t *received, *sent;
	/* The same, both ways, since it began, and when that was last compared with the time. */
	uint64_t moved, moved_before, looked_at;
	uint8_t is_busy;
	/* Streams that were for nothing, and SETTINGS. */
	struct hbone_rate wasted, settings;

	/* Framed bytes that the connection below has taken, and those that it may have taken. */
	uint64_t passed, offered;
	/* Framed bytes that the connection below has not taken. */
	uint8_t *out;
	size_t out_start, out_end, out_capacity;
};

/* ---- tunnel.c ---- */

static inline size_t hbone_held(const struct hbone_tunnel *tunnel)
{
	return tunnel->out_end - tunnel->out_start;
}

/* Counts a stream that was for nothing. */
void hbone_waste(struct hbone_tunnel *tunnel);
/* Room for so many bytes behind those that are held; NULL without memory. */
uint8_t *hbone_make_room(struct hbone_tunnel *tunnel, size_t count);
/* Has the codec frame what it has: 0, or -1. */
int hbone_frame(struct hbone_tunnel *tunnel);
/* A block of the size for a stream that has none, or what it held is moved into it: 0, or -1. */
int hbone_stream_grow(struct hbone_stream *stream, size_t capacity);
/* Gives a stream's block back. */
void hbone_stream_shrink(struct hbone_stream *stream);
struct hbone_stream *hbone_find(nghttp2_session *session, int32_t id);

/* ---- head.c ---- */

/* The codec's: a field of a head. */
int hbone_hear(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
	       size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
	       void *argument);
/* A head has come whole. Not 0: it is a second one, where nothing but bytes may come any more. */
int hbone_heard(struct hbone_stream *stream);

/* ---- window.c ---- */

/* Says that bytes were read, so that the peer may send more. */
void hbone_consumed(struct hbone_stream *stream, size_t count);

/* ---- stream.c ---- */

void hbone_note(struct hbone_stream *stream, unsigned int news);
struct hbone_stream *hbone_stream_new(struct hbone_tunnel *tunnel);
/* Takes it out of its tunnel. */
void hbone_forget(struct hbone_stream *stream);
/* And frees it. */
void hbone_discard(struct hbone_stream *stream);
/* The codec's: what of a stream goes into a frame, and how large that may be. */
int hbone_send_frame(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
		     size_t count, nghttp2_data_source *source, void *argument);
ssize_t hbone_frame_room(nghttp2_session *session, uint8_t type, int32_t id, int32_t connection,
			 int32_t stream, uint32_t frame_max, void *argument);
