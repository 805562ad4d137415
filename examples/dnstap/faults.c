/* faults.c: what is odd in what an input brings, though it can be put out: the first of a kind is
 * told, the rest is counted; and how much of all there was. */
#include "dns.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BAD, LARGE, BARE, ODD };

static bool is_odd(dnstap_bytes address)
{
    return address.size != 0 && address.size != 4 && address.size != 16;
}

const char *faults_note(faults *f, const dnstap_received *r)
{
    const dnstap_message *m = r->message;
    if (r->kind == DNSTAP_SINK_SKIPPED) {
        f->count[LARGE]++;
        return "too large, skipped";
    }
    if (!m) {
        f->count[BAD]++;
        return dnstap_strerror(r->result);
    }
    if (!has_field(m, 1)) return f->count[BARE]++ ? NULL : "holds no message";
    if (!is_odd(m->query_address) && !is_odd(m->response_address)) return NULL;
    return f->count[ODD]++ ? NULL : "an address has neither 4 nor 16 bytes";
}

void faults_total(const faults *f, const char *name)
{
    static const char *const kinds[] = {"not dnstap", "too large", "without a message",
                                        "with an address of odd length"};
    char line[256];
    size_t n = 0;
    for (int i = 0; i < FAULT_KINDS; i++)
        if (f->count[i])
            n += (size_t)snprintf(line + n, sizeof line - n, "%s%" PRIu64 " %s", n ? ", " : "",
                                  f->count[i], kinds[i]);
    if (n) complain("%s: of its frames, %s", name, line);
}
