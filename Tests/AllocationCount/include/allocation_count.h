/* Counts the allocations of each thread of a test: malloc and its kin are replaced by functions
 * that count and then call the C library's. */
#pragma once
#include <stdint.h>

/* Allocations of the thread (0: the caller) since it began; 0 if it never made one. */
uint64_t allocation_count(int thread);
/* The number of this process's first thread of the name; 0: there is none. */
int allocation_thread(const char *name);
