/* How much a peer may send ahead on a stream: little at first, more while whoever reads keeps up,
 * and little again when memory is scarce. A stream that is not read gets nothing more, and no other
 * stream hears of it.
 *
 * A window covers what its sender can put on the wire until it hears that more may come. So it is
 * doubled when all of it was read in less than two round trips, or in so little time that the
 * workers of both ends count for more than the wire. Source: RFC 9113 section 6.9. */
#include "hbone.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>

/* At 256 KiB: 200 Mbit/s. */
enum { QUICK_NS = 10 * 1000 * 1000 };

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Two round trips, as the kernel has measured them; called once a window. */
static int64_t quick_ns(const struct hbone_tunnel *tunnel)
{
	struct tcp_info info;
	socklen_t count = sizeof(info);
	int64_t trips;

	if (getsockopt(tunnel->fd, IPPROTO_TCP, TCP_INFO, &info, &count))
		return QUICK_NS;
	trips = 2 * 1000 * (int64_t)info.tcpi_rtt;
	return trips > QUICK_NS ? trips : QUICK_NS;
}

static int is_beyond(const uint64_t *held, uint64_t most)
{
	return held && *held > most;
}

static int is_scarce(const struct hbone_stream *stream)
{
	const struct hbone_limits *limits = &stream->tunnel->limits;

	return is_beyond(stream->charged, limits->account_bytes_max / 2) ||
	       is_beyond(stream->total, limits->total_bytes_max / 2);
}

static void adapt(struct hbone_stream *stream, size_t count)
{
	const struct hbone_limits *limits = &stream->tunnel->limits;
	int64_t now;

	if (is_scarce(stream)) {
		stream->window = limits->stream_window;
		stream->read_count = 0;
		return;
	}
	if (stream->window >= limits->stream_window_max)
		return;
	if (!stream->read_count)
		stream->read_since = now_ns();
	stream->read_count += count;
	if (stream->read_count < stream->window)
		return;
	now = now_ns();
	if (now - stream->read_since <= quick_ns(stream->tunnel))
		stream->window *= 2;
	if (stream->window > limits->stream_window_max)
		stream->window = limits->stream_window_max;
	stream->read_count = 0;
}

void hbone_consumed(struct hbone_stream *stream, size_t count)
{
	struct hbone_tunnel *tunnel = stream->tunnel;
	int64_t unread = (int64_t)(stream->end - stream->start);
	int64_t ahead, room;

	if (!tunnel || stream->is_closed || stream->has_ended)
		return;
	adapt(stream, count);
	/* It is behind, and its account holds too much. */
	if (unread && is_beyond(stream->charged, tunnel->limits.account_bytes_max))
		return;
	ahead = nghttp2_session_get_stream_local_window_size(tunnel->session, stream->id);
	room = stream->window - unread - ahead;
	/* Half a window at a time: a frame for less would cost more than it is worth. */
	if (room < stream->window / 2)
		return;
	nghttp2_submit_window_update(tunnel->session, NGHTTP2_FLAG_NONE, stream->id, (int32_t)room);
	tunnel->has_work = 1;
}
