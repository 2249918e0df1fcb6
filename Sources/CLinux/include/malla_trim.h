/* What the C library keeps of a process's memory. */
#pragma once

/* Gives the kernel back what was freed, in all threads' heaps. Milliseconds for a large heap. */
void malla_trim(void);
