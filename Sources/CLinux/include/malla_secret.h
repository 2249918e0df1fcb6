/* What a process that holds keys asks of the kernel. */
#pragma once

/* No core dump, no ptrace and no /proc/PID/mem for others of the same user (PR_SET_DUMPABLE 0). */
void malla_forbid_dumps(void);
