/* malloc_trim(3), mallopt(3); see the header. */
#include "malla_trim.h"

#include <malloc.h>

void malla_trim(void)
{
	malloc_trim(0);
}

void malla_trim_large(void)
{
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
}
