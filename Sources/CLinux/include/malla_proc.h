/* /proc/sys inside a container. */
#pragma once

/* A container runtime mounts /proc/sys read-only. Makes it writable in the mount namespace of the
 * caller, which needs SYS_ADMIN. Returns -errno on failure. */
int malla_proc_sys_unlock(void);
