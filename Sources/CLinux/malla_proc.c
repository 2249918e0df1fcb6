/* /proc/sys inside a container. */
#include "malla_proc.h"

#include <errno.h>
#include <sys/mount.h>

int malla_proc_sys_unlock(void)
{
	unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	return mount(0, "/proc/sys", 0, flags, 0) < 0 ? -errno : 0;
}
