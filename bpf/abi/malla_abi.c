/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The names of hooks and verdicts, for metric labels and for what the command line prints. */
#include "malla_abi.h"

#include <stddef.h>

#define NAME_OF(name, number, text) [number] = (text),

static const char *const hooks[MALLA_HOOKS_MAX] = {MALLA_HOOK_LIST(NAME_OF)};
static const char *const verdicts[MALLA_VERDICTS_MAX] = {MALLA_VERDICT_LIST(NAME_OF)};

const char *malla_hook_name(__u32 number)
{
	return number < MALLA_HOOKS_MAX ? hooks[number] : NULL;
}

const char *malla_verdict_name(__u32 number)
{
	return number < MALLA_VERDICTS_MAX ? verdicts[number] : NULL;
}
