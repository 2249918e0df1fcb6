/* OpenSSL's ordinary memory: malloc(3), but that a thread can have all wiped that it gives back. A
 * key that is read passes through blocks of OpenSSL's decoders, which would keep it when freed. */
#define _GNU_SOURCE
#include "memory.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static __thread int wiping;

void malla_wiping_begin(void)
{
	wiping++;
}

void malla_wiping_end(void)
{
	wiping--;
}

static void *take(size_t bytes, const char *file, int line)
{
	(void)file, (void)line;
	return bytes ? malloc(bytes) : NULL;
}

static void give(void *block, const char *file, int line)
{
	(void)file, (void)line;
	if (block && wiping)
		explicit_bzero(block, malloc_usable_size(block));
	free(block);
}

static void *resize(void *block, size_t bytes, const char *file, int line)
{
	void *other;
	size_t held;

	if (!block)
		return take(bytes, file, line);
	if (!bytes) {
		give(block, file, line);
		return NULL;
	}
	if (!wiping)
		return realloc(block, bytes);
	other = malloc(bytes);
	if (!other)
		return NULL;
	held = malloc_usable_size(block);
	memcpy(other, block, held < bytes ? held : bytes);
	give(block, file, line);
	return other;
}

/* Before main, because OpenSSL takes no other functions once it has allocated. */
__attribute__((constructor)) static void install(void)
{
	CRYPTO_set_mem_functions(take, resize, give);
}
