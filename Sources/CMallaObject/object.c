/* The compiled eBPF programs, inside the agent's binary: it needs no compiler at run time. */
#include "malla_object.h"

#if !__has_include("malla.bpf.inc")
#error "the eBPF object is not built: run `make bpf` first"
#endif

const unsigned char malla_object[] __attribute__((aligned(16))) = {
#include "malla.bpf.inc"
};
const unsigned long malla_object_bytes = sizeof(malla_object);
