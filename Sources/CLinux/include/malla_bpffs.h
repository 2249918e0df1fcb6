/* Whether a path is on a bpffs mount. */
#pragma once

/* 1: it is; 0: it is not, or does not exist. */
int malla_is_bpffs(const char *path);
