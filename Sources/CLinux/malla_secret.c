#include "malla_secret.h"

#include <sys/prctl.h>

void malla_forbid_dumps(void) { (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
