/* The library in a unit of its own, as a server has it. BENCH_BUNDLE: nanopb's runtime with it. */
#ifdef BENCH_BUNDLE
#define PB_BUFFER_ONLY 1
#include "pb_common.c"
#include "pb_encode.c"
#include "pb_decode.c"
#endif
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
