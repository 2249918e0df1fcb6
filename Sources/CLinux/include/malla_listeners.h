/* Who else listens on a port, who comes to it, and listening sockets that are about to be closed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a TCP socket of this network namespace, other than `ours`, listens on the port and takes
 * connections to the address (IPv6 or v4-mapped; dual: any of both families). 0 also where the
 * kernel has no sock_diag(7) for TCP. */
int malla_port_has_other(const uint8_t address[16], uint16_t port, bool is_dual, const int *ours,
			 size_t count);

/* Whether a client's handshake with the port at the address is begun and not done: whoever listens
 * there will have it in its queue, and who no longer does resets it. 0 as above. */
int malla_port_has_handshake(const uint8_t address[16], uint16_t port, bool is_dual);

/* From here on nobody new begins a connection with a listening socket: SYNs are dropped, which
 * clients send again, and then to whoever listens in its place. Handshakes that were begun go on.
 * 0 or -errno. */
int malla_listener_hush(int listener);
/* Takes it back. */
int malla_listener_unhush(int listener);
