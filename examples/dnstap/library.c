/* library.c: the implementation of dnstap.h, compiled once for the whole tool. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
