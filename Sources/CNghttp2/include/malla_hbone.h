/* HBONE: one HTTP/2 connection over a session (TLS), whose CONNECT streams are sessions themselves,
 * so that the engine reads and writes a tunnelled connection as if it had a socket of its own.
 *
 * One worker's. Nothing here waits, and nothing is sent before `hbone_tunnel_flush`: what the
 * streams of one turn write leaves in one piece. A stream takes no more than its windows allow, and
 * gives the peer no more room before the engine has read what came: backpressure from end to end,
 * for each stream by itself. The room of the connection is given back on receipt, so that a stream
 * that nobody reads costs its own window and holds up no other.
 * Source: RFC 9113 (sections 5.2, 6.9, 8.5), RFC 7639; the codec is libnghttp2. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <engine_session.h>

struct hbone_tunnel;
struct hbone_stream;

struct hbone_limits {
	uint32_t streams_max;	    /* that the peer may have open */
	uint32_t stream_window;	    /* bytes that a peer may send ahead on a stream, at first */
	uint32_t stream_window_max; /* and while its reader keeps up */
	uint32_t connection_window; /* the same for all streams together, on the wire */
	uint32_t header_bytes_max;  /* of one CONNECT, names and values */
	/* Streams that a peer may open within a second only to reset them, to have them reset, or
	 * to be refused as what no peer should ask for. */
	uint32_t resets_max;
	uint32_t outgoing_bytes_max; /* framed and not taken by the socket: streams wait */
	uint32_t answers_bytes_max;  /* beyond these: the peer is not read */
	/* What may be held of what came and was not read (`hbone_tunnel_charge`). Beyond half of
	 * either no window grows and those that have grown shrink; beyond what the account of a
	 * stream may hold, the stream gets room again when all is read. */
	uint64_t account_bytes_max, total_bytes_max;
};

/* Why a tunnel ended. */
enum hbone_end {
	HBONE_END_NONE,
	HBONE_END_CLOSED,   /* in good order */
	HBONE_END_BROKEN,   /* the connection below */
	HBONE_END_PROTOCOL, /* the peer does not keep to RFC 9113 */
	HBONE_END_FLOOD, /* more resets, refusals, pings, settings, parts of a head than may come */
	HBONE_END_MEMORY,
};

/* What a peer asked a server for: valid until the stream is accepted, refused or freed. Texts are
 * not NUL-terminated; NULL, 0: absent. */
struct hbone_request {
	const char *method, *authority, *protocol, *forwarded, *baggage;
	size_t method_bytes, authority_bytes, protocol_bytes, forwarded_bytes, baggage_bytes;
	int is_malformed; /* RFC 9113, sections 8.2, 8.3 and 8.5 */
	int is_too_long;  /* `header_bytes_max`: what was beyond is missing */
};

/* What is new at a stream, for whoever owns it. */
enum hbone_news {
	HBONE_NEWS_OPENED = 1,	 /* a server's: a CONNECT has come whole */
	HBONE_NEWS_ANSWERED = 2, /* a client's: the answer has come; the handshake may go on */
	HBONE_NEWS_READABLE = 4, /* bytes, or the end */
	HBONE_NEWS_WRITABLE = 8, /* a `send` that was answered by -EAGAIN may be tried again */
	HBONE_NEWS_RESET = 16,	 /* nothing more goes either way */
};

/* `below` is the caller's, as is the socket; NULL below: the socket itself, which else is only
 * asked how long a round trip takes. The preface and the settings are queued. NULL without memory.
 */
struct hbone_tunnel *hbone_tunnel_new(struct engine_session *below, int fd, int is_server,
				      const struct hbone_limits *limits);
/* Streams that are still open live on, reset: each belongs to whoever frees it; those of a server
 * that nobody accepted go with the tunnel. */
void hbone_tunnel_free(struct hbone_tunnel *tunnel);

/* Reads once into `scratch` and takes what was read apart. 1: come again; 0: nothing now; -1: the
 * tunnel has ended, which is news to all its streams. */
int hbone_tunnel_receive(struct hbone_tunnel *tunnel, uint8_t *scratch, size_t room);
/* 1: all that was queued is with the socket. 0: the socket is full. -1: the tunnel has ended. */
int hbone_tunnel_flush(struct hbone_tunnel *tunnel);
/* Something waits to be flushed. */
int hbone_tunnel_wants_flush(const struct hbone_tunnel *tunnel);
/* Less than a frame's worth of room is left in the window of all streams. */
int hbone_tunnel_is_choked(const struct hbone_tunnel *tunnel);
/* It has moved more than `most` bytes a second, both ways, between the last two calls that were a
 * tenth of a second apart. `now`: nanoseconds. */
int hbone_tunnel_is_busy(struct hbone_tunnel *tunnel, uint64_t now, uint64_t most);
/* The peer does not take what is framed for it: nothing is to be received meanwhile. */
int hbone_tunnel_is_full(const struct hbone_tunnel *tunnel);
/* The connection below is lost. */
void hbone_tunnel_abort(struct hbone_tunnel *tunnel);
/* The next stream that has news, taken from the list; NULL: none. */
struct hbone_stream *hbone_tunnel_next(struct hbone_tunnel *tunnel);

/* Where what streams have received and nobody has read is counted, in bytes of memory: that of
 * streams begun from now on, and of all. Both outlive the tunnel and its streams. */
void hbone_tunnel_charge(struct hbone_tunnel *tunnel, uint64_t *charged, uint64_t *total);
/* Where its bytes are counted, frames and all, those below TLS not. Both outlive the tunnel. */
void hbone_tunnel_count(struct hbone_tunnel *tunnel, uint64_t *received, uint64_t *sent);
/* So much its streams hold now. */
size_t hbone_tunnel_held(const struct hbone_tunnel *tunnel);

/* Cuts off the stream that holds most, and gives that back. 0: none holds anything. */
int hbone_tunnel_relieve(struct hbone_tunnel *tunnel);

enum hbone_end hbone_tunnel_end(const struct hbone_tunnel *tunnel);
/* Streams that are open now. */
uint32_t hbone_tunnel_streams(const struct hbone_tunnel *tunnel);
/* How many more the peer would take: 0 behind its GOAWAY, and before its settings at most 100. */
uint32_t hbone_tunnel_room(const struct hbone_tunnel *tunnel);
/* Takes no new streams and says so (GOAWAY); those that are open go on. */
void hbone_tunnel_drain(struct hbone_tunnel *tunnel);
/* Either end drains: there will be no new streams. */
int hbone_tunnel_is_draining(const struct hbone_tunnel *tunnel);
/* Asks for a sign of life; `hbone_tunnel_pings` counts those that were answered. */
void hbone_tunnel_ping(struct hbone_tunnel *tunnel);
uint32_t hbone_tunnel_pings(const struct hbone_tunnel *tunnel);

/* A client's stream: CONNECT to `authority`. `forwarded`, `baggage`: field values, NULL for none.
 * NULL: the tunnel takes none now. */
struct hbone_stream *hbone_stream_open(struct hbone_tunnel *tunnel, const char *authority,
				       const char *forwarded, const char *baggage, uint64_t owner);
/* Whom a stream's bytes are charged to from now on, those that it holds too. */
void hbone_stream_charge(struct hbone_stream *stream, uint64_t *charged);
/* Whose a server's stream is, before it is answered. */
void hbone_stream_own(struct hbone_stream *stream, uint64_t owner);
/* A server's answer: 200, and bytes may flow. */
void hbone_stream_accept(struct hbone_stream *stream, uint64_t owner);
/* A server's refusal. The stream is freed. `is_waste`: no peer should ask for this, and it counts
 * against `resets_max`. */
void hbone_stream_refuse(struct hbone_stream *stream, int status, int is_waste);
/* The stream as the engine reads and writes it; it is freed through it. */
struct engine_session *hbone_stream_session(struct hbone_stream *stream);
/* News since the last call (`enum hbone_news`), and whose stream it is (0: nobody's yet). */
unsigned int hbone_stream_news(struct hbone_stream *stream);
uint64_t hbone_stream_owner(const struct hbone_stream *stream);
struct hbone_request hbone_stream_request(const struct hbone_stream *stream);
/* The status that was answered, 0 before. */
int hbone_stream_status(const struct hbone_stream *stream);
/* What was sent is not all: the stream will be freed by CANCEL, whatever has ended. */
void hbone_stream_break(struct hbone_stream *stream);
/* What is sent from now on begins something of its own. */
void hbone_stream_mark(struct hbone_stream *stream);
/* Nothing of what was sent since `hbone_stream_mark` has left, nor will if the stream is freed. */
int hbone_stream_is_unsent(const struct hbone_stream *stream);
/* Nothing more goes either way, and not because both ends have said so. */
int hbone_stream_is_cut(const struct hbone_stream *stream);
/* We have reset it because its peer does not keep to RFC 9113. */
int hbone_stream_is_mistaken(const struct hbone_stream *stream);
/* The peer never saw this stream's bytes (GOAWAY, REFUSED_STREAM): another connection may be tried.
 */
int hbone_stream_is_untouched(const struct hbone_stream *stream);
