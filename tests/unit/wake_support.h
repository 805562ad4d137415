/* A transport that has nothing to receive, for the tests of the sleep. Include it after dnstap.h.
 */
#ifndef WAKE_SUPPORT_H
#define WAKE_SUPPORT_H

#include "unit.h"

/* The steps of the sleep protocol, as test_wake_order.c finds them in the code and the model of a
 * weakly ordered machine takes them: l load, a acquire load, s store, r release store, x exchange;
 * P published, B bytes, W wake_at, S sleep; b the barrier, c the call. */
#define WAKE_PRODUCER_STEPS "rP rB lW lS xS c "
#define WAKE_SERVICE_STEPS "sS aB aP sW xS b aB "

static long have_none(void *self, void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size, (void)wants;
    return DNSTAP_AGAIN;
}

static void do_nothing(void *self) { (void)self; }

/* A tap that has such a transport; the test says what takes the bytes, and the descriptor. */
HELPER void wake_options(dnstap_options *o, long (*send)(void *, const void *, size_t, short *),
                         int (*fd)(void *))
{
    static dnstap_transport transport;

    transport.send = send;
    transport.recv = have_none;
    transport.close = do_nothing;
    transport.fd = fd;
    memset(o, 0, sizeof *o);
    o->transport = &transport;
    o->unidirectional = true;
}

#endif
