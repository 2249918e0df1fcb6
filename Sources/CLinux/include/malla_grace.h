/* Waiting for programs in the kernel that began before. */
#pragma once

/*
 * Returns once no eBPF program runs that began before the call, on any processor: what one of them
 * has read, and leads to what is to be removed, is not followed any more. Milliseconds; at once
 * where the kernel does not offer it.
 *
 * membarrier(2), MEMBARRIER_CMD_GLOBAL (Linux 4.16): a grace period of RCU.
 */
void malla_grace_wait(void);
