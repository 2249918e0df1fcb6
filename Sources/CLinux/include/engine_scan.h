/* Scans of heads: sixteen bytes a step, by the compiler's vectors (SSE2, NEON). Little-endian. */
#pragma once
#include <stdint.h>
#include <string.h>

typedef uint8_t engine_bytes16 __attribute__((vector_size(16)));
typedef uint64_t engine_words2 __attribute__((vector_size(16)));

/* The place of the first byte of the mask that is not 0; 16: there is none. */
static inline long engine_first16(engine_bytes16 mask)
{
	engine_words2 words = (engine_words2)mask;

	if (words[0])
		return __builtin_ctzll(words[0]) >> 3;
	return words[1] ? 8 + (__builtin_ctzll(words[1]) >> 3) : 16;
}

static inline engine_bytes16 engine_load16(const uint8_t *bytes)
{
	engine_bytes16 loaded;

	memcpy(&loaded, bytes, sizeof(loaded));
	return loaded;
}

/* From `start`, whole steps within `end`: where a control character or DEL is, else where to go on
 * byte by byte; `found` says which. */
static inline long engine_scan_value(const uint8_t *base, long start, long end, int *found)
{
	long index = start;

	for (; index + 16 <= end; index += 16) {
		engine_bytes16 bytes = engine_load16(base + index);
		long first = engine_first16((engine_bytes16)((bytes < 0x20) | (bytes == 0x7f)));

		if (first < 16) {
			*found = 1;
			return index + first;
		}
	}
	*found = 0;
	return index;
}

/* The same for what is no letter, digit or hyphen. */
static inline long engine_scan_name(const uint8_t *base, long start, long end, int *found)
{
	long index = start;

	for (; index + 16 <= end; index += 16) {
		engine_bytes16 bytes = engine_load16(base + index);
		engine_bytes16 letters = (bytes | 0x20) - 'a', digits = bytes - '0';
		engine_bytes16 plain =
			(engine_bytes16)((letters < 26) | (digits < 10) | (bytes == '-'));
		long first = engine_first16(~plain);

		if (first < 16) {
			*found = 1;
			return index + first;
		}
	}
	*found = 0;
	return index;
}
