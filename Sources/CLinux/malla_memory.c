#define _GNU_SOURCE
#include "malla_memory.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* One mapping of /proc/self/smaps (proc(5)). */
struct mapping {
	uintptr_t start, end;
	int is_clean_file; /* read-only, of a file, and nothing of it was ever written */
};

static void release(const struct mapping *one)
{
	/* Safe: what is gone is read from its file again when it is touched. */
	if (one->is_clean_file)
		madvise((void *)one->start, one->end - one->start, MADV_DONTNEED);
}

void malla_memory_release(void)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	struct mapping one = { 0 };
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long start, end, anonymous;
		char rights[5];

		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3) {
			release(&one);
			one.start = start;
			one.end = end;
			one.is_clean_file = !strchr(rights, 'w') && strchr(line, '/');
		} else if (sscanf(line, "Anonymous: %lu", &anonymous) == 1 && anonymous) {
			one.is_clean_file = 0;
		}
	}
	release(&one);
	if (maps)
		fclose(maps);
}
