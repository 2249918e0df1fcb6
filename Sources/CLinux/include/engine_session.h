/* A security session over a socket, as the engine calls it: one table of functions a kind (TLS by
 * OpenSSL). Plain connections have none and pay one comparison. */
#pragma once
#include <sys/types.h>

struct engine_session;

struct engine_session_operations {
	/* 1: done. 0: the socket must become readable or writable first. -1: failed, for good. */
	int (*handshake)(struct engine_session *session);
	/* Plain bytes; 0 at the peer's orderly or sudden end; -EAGAIN when there is nothing now
	 * (nothing buffered in the session either), else -errno. */
	ssize_t (*receive)(struct engine_session *session, void *bytes, size_t room);
	/* Bytes of `a`, then of `b` (may be NULL), that were taken, at least one; -EAGAIN: none,
	 * the caller comes again with the same bytes first (maybe elsewhere, maybe more). */
	ssize_t (*send)(struct engine_session *session, const void *a, size_t a_count,
			const void *b, size_t b_count);
	/* Says that nothing more will be sent (close_notify), as far as the socket takes it. */
	void (*end)(struct engine_session *session);
	/* Frees the session; the socket is the caller's. */
	void (*free)(struct engine_session *session);
};

/* The first member of each kind's own record. */
struct engine_session {
	const struct engine_session_operations *operations;
	/* Set by `receive`: it took all there is, the next bytes are a new edge of the socket. */
	int is_drained;
	/* Set by the caller: the bytes of the next `send` are the last, so that the session may end
	 * behind them in the same piece. */
	int ends;
	/* Set by the caller: the peer will send no more, so that only an empty read is the end. */
	int is_ending;
};

static inline int engine_session_handshake(struct engine_session *session)
{
	return session->operations->handshake(session);
}

static inline ssize_t engine_session_receive(struct engine_session *session, void *bytes,
					     size_t room)
{
	return session->operations->receive(session, bytes, room);
}

static inline ssize_t engine_session_send(struct engine_session *session, const void *a,
					  size_t a_count, const void *b, size_t b_count)
{
	return session->operations->send(session, a, a_count, b, b_count);
}

static inline void engine_session_end(struct engine_session *session)
{
	session->operations->end(session);
}

static inline void engine_session_free(struct engine_session *session)
{
	session->operations->free(session);
}
