/* libbpf 1.1 (Debian 12) and bpf(2), as BPFLoader sees them. */
#pragma once
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
