/* What the C library keeps of a process's memory. */
#pragma once

/* Gives the kernel back what was freed, in all threads' heaps. Milliseconds for a large heap. */
void malla_trim(void);

/*
 * From here on what is larger than 256 KiB has pages of its own and gives them back when it is
 * freed. glibc would raise that limit with each such piece, and the next table of ten thousand
 * services would leave a hole in the heap. Before other threads are started.
 */
void malla_trim_large(void);
