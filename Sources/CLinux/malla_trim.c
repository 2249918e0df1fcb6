/* malloc_trim(3); see the header. */
#include "malla_trim.h"

#include <malloc.h>

void malla_trim(void)
{
	malloc_trim(0);
}
