/* membarrier(2); see the header. */
#include "malla_grace.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

void malla_grace_wait(void)
{
	(void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}
