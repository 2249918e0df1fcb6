/* See malla_bpffs.h. */
#include "malla_bpffs.h"

#include <linux/magic.h>
#include <sys/vfs.h>

int malla_is_bpffs(const char *path)
{
	struct statfs status;

	return !statfs(path, &status) && (unsigned long)status.f_type == BPF_FS_MAGIC;
}
