/* Shared by the eBPF programs, the host's C compiler and Swift (module CMallaABI). */
#pragma once
#include <linux/types.h>

#define MALLA_ABI_VERSION 1
