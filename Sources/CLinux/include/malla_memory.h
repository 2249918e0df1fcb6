/* What a process holds of memory. */
#pragma once

/* Gives back pages of programs and libraries that were needed to start: for a process that does
 * little from now on. Those that it needs again are mapped again when they are touched. */
void malla_memory_release(void);
