/* Sockets of another network namespace, by sock_diag(7): found, and closed with an error. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A netlink socket of the caller's namespace, or of the one at `path` (CAP_SYS_ADMIN); or -errno. */
int malla_diagnose_open(void);
int malla_diagnose_open_at(const char *path);
/* The cookie of the namespace that a socket belongs to; 0: unknown. Linux 5.14. */
uint64_t malla_diagnose_namespace(int descriptor);
/*
 * Closes the sockets with one of the cookies that are connected to the end (an IPv6 or IPv4-mapped
 * address, port in host order): their owners get ECONNABORTED, TCP peers a reset. How many, or
 * -errno. Linux 4.9, CONFIG_INET_DIAG_DESTROY.
 */
int malla_diagnose_close(int descriptor, uint8_t protocol, const uint8_t address[16],
			 uint16_t port, const uint64_t *cookies, size_t count);
