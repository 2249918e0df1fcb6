/* The ELF object of bpf/malla.bpf.c. Written by `make bpf` (malla.bpf.inc), read by BPFLoader. */
#pragma once

/* 16-byte aligned; malla_object_bytes long. */
extern const unsigned char malla_object[];
extern const unsigned long malla_object_bytes;

/* Its first byte: Swift does not import arrays of unknown length. */
static inline const void *malla_object_start(void)
{
	return malla_object;
}
