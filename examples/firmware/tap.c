/* The one unit with dnstap.h's implementation. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
