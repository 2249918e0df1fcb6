/* OpenSSL's ordinary memory, as the code around private keys uses it. */
#pragma once

/* Between the two this thread wipes what it gives back. They nest. */
void malla_wiping_begin(void);
void malla_wiping_end(void);
