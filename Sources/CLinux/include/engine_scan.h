/* Scans of heads: sixteen bytes a step, by the compiler's vectors (SSE2, NEON), the last of which
 * looks at some bytes again. Little-endian. */
#pragma once
#include <stdint.h>
#include <string.h>

typedef uint8_t engine_bytes16 __attribute__((vector_size(16)));
typedef uint64_t engine_words2 __attribute__((vector_size(16)));

/* The place of the first byte of a comparison's result that is not 0; 16: there is none. The first
 * `skipped` ones, up to 15, do not count. */
static inline long engine_first16(engine_bytes16 mask, long skipped)
{
#ifdef __SSE2__
	typedef char chars16 __attribute__((vector_size(16)));
	uint32_t bits = (uint32_t)__builtin_ia32_pmovmskb128((chars16)mask) >> skipped << skipped;

	return bits ? __builtin_ctz(bits) : 16;
#else
	engine_words2 words = (engine_words2)mask;

	if (skipped < 8) {
		words[0] &= ~0ull << 8 * skipped;
	} else {
		words[0] = 0;
		words[1] &= ~0ull << 8 * (skipped - 8);
	}
	if (words[0])
		return __builtin_ctzll(words[0]) >> 3;
	return words[1] ? 8 + (__builtin_ctzll(words[1]) >> 3) : 16;
#endif
}

static inline engine_bytes16 engine_load16(const uint8_t *bytes)
{
	engine_bytes16 loaded;

	memcpy(&loaded, bytes, sizeof(loaded));
	return loaded;
}

static inline engine_bytes16 engine_controls16(engine_bytes16 bytes)
{
	return (engine_bytes16)((bytes < 0x20) | (bytes == 0x7f));
}

static inline engine_bytes16 engine_others16(engine_bytes16 bytes)
{
	engine_bytes16 letters = (bytes | 0x20) - 'a', digits = bytes - '0';

	return (engine_bytes16) ~((letters < 26) | (digits < 10) | (bytes == '-'));
}

/* From `start` to `end`: where the first byte is of those that `marked` marks, else where to go on
 * byte by byte, which is `end` but for the shortest of heads; `found` says which. */
static inline __attribute__((always_inline)) long
engine_scan(const uint8_t *base, long start, long end, int *found,
	    engine_bytes16 (*marked)(engine_bytes16))
{
	long index = start;

	for (; index + 16 <= end; index += 16) {
		long first = engine_first16(marked(engine_load16(base + index)), 0);

		if (first < 16) {
			*found = 1;
			return index + first;
		}
	}
	*found = 0;
	if (index < end && end >= 16) {
		engine_bytes16 mask = marked(engine_load16(base + end - 16));
		long first = engine_first16(mask, 16 - (end - index));

		*found = first < 16;
		return end - 16 + first;
	}
	return index;
}

/* For a control character or DEL. */
static inline long engine_scan_value(const uint8_t *base, long start, long end, int *found)
{
	return engine_scan(base, start, end, found, engine_controls16);
}

/* For what is no letter, digit or hyphen. */
static inline long engine_scan_name(const uint8_t *base, long start, long end, int *found)
{
	return engine_scan(base, start, end, found, engine_others16);
}
