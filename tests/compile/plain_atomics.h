/* What dnstap.h needs of a compiler without __atomic builtins, for a program with one thread. */
#include <stddef.h>

static size_t plain_exchange(size_t *p, size_t v)
{
    const size_t old = *p;
    *p = v;
    return old;
}

static int plain_compare_exchange(size_t *p, size_t *expected, size_t v)
{
    if (*p == *expected) {
        *p = v;
        return 1;
    }
    *expected = *p;
    return 0;
}

#define DNSTAP_NO_THREADS
#define DNSTAP_LOAD(p) (*(p))
#define DNSTAP_STORE(p, v) (*(p) = (v))
#define DNSTAP_LOAD_ACQUIRE(p) (*(p))
#define DNSTAP_STORE_RELEASE(p, v) (*(p) = (v))
#define DNSTAP_EXCHANGE(p, v) plain_exchange(p, v)
#define DNSTAP_COMPARE_EXCHANGE(p, expected, v) plain_compare_exchange(p, expected, v)
#define DNSTAP_COMPILER_FENCE() ((void)0)
