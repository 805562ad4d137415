/* What the formats share: DNS messages, walked and printed, and the values of dnstap's fields. */
#ifndef DNSTAP_TOOL_DNS_H
#define DNSTAP_TOOL_DNS_H

#include "tool.h"

/* ---- dns.c: a message is taken or refused as golang-dnstap's tool does it ------------------- */

enum { DNS_HEADER = 12, DNS_NAME_MAX = 255 };
enum { DNS_RECORD_SECTIONS = 3 }; /* answer, authority, additional */

/* A DNS message and the place reached in it. */
typedef struct dns_reader {
    const uint8_t *data;
    size_t size, at;
} dns_reader;

typedef struct dns_question {
    uint8_t name[DNS_NAME_MAX]; /* without compression */
    size_t size;
    unsigned type, class_;
} dns_question;

typedef struct dns_record {
    size_t begin, data, end; /* in the message; data: behind its header */
    unsigned type, class_;
    uint32_t ttl;
} dns_record;

/* What a message holds: fewer records than its header promises where it ends at a record's edge,
 * as truncated responses do. */
typedef struct dns_message {
    dns_reader reader; /* at the first question */
    unsigned questions;
    unsigned records[DNS_RECORD_SECTIONS];
    dns_question question; /* the first */
} dns_message;

/* Each returns NULL, or why it is refused, in the words of golang-dnstap's tool: static text. */
const char *dns_read(dns_message *m, dnstap_bytes bytes);
const char *dns_read_name(dns_reader *r, dns_question *q); /* only its name */
const char *dns_read_question(dns_reader *r, dns_question *q);
/* The record has begin == end where the message ends. */
const char *dns_read_record(dns_reader *r, dns_record *record);

/* RFC 6891, 6: the last OPT record, as the other tool has it; and the code with what it adds. Of a
 * message that dns_read has taken, or what it has taken of one that it refused, which has at least
 * a header. */
bool dns_find_opt(const dns_message *m, dns_record *opt);
unsigned dns_rcode(const dns_message *m);

unsigned dns_get16(const uint8_t *p);
uint32_t dns_get32(const uint8_t *p);

/* ---- dnstext.c: names, types, classes and whole messages, by ldns --------------------------- */

/* A name in wire format as golang-dnstap's tool spells it. */
void text_dns_name(text *t, const dns_question *q);
void text_dns_class(text *t, unsigned class_);
void text_dns_type(text *t, unsigned type);
void text_dns_rcode(text *t, unsigned rcode);
/* Of a name, or a number; false: it is neither. Letters of either case. */
bool dns_rcode_from(const char *s, unsigned *rcode);
/* A message that dns_read has taken, as lines: the header, EDNS, the sections. Printable ASCII,
 * tabs and line feeds only. */
void text_dns_message(text *t, const dns_message *m);

/* ---- edns.c --------------------------------------------------------------------------------- */

enum {
    DNS_OPTION_LLQ = 1,
    DNS_OPTION_LEASE,
    DNS_OPTION_NSID,
    DNS_OPTION_ESU,
    DNS_OPTION_DAU,
    DNS_OPTION_DHU,
    DNS_OPTION_N3U,
    DNS_OPTION_SUBNET,
    DNS_OPTION_EXPIRE,
    DNS_OPTION_COOKIE,
    DNS_OPTION_KEEPALIVE,
    DNS_OPTION_PADDING,
    DNS_OPTION_ERROR = 15
};

/* One of a message that dns_read has taken, as a line. */
void text_dns_option(text *t, unsigned code, const uint8_t *p, size_t size);

/* ---- values.c ------------------------------------------------------------------------------- */

/* The calendar's day and time in UTC; the year may be below 0. */
typedef struct civil_time {
    int64_t year;
    unsigned month, day, hour, minute, second;
    uint32_t nsec;
} civil_time;

civil_time civil_time_of(uint64_t sec, uint32_t nsec);
civil_time local_time_of(uint64_t sec);                                  /* in the local zone */
void text_day(text *t, const civil_time *c);                             /* 2020-09-13 */
void text_clock(text *t, const civil_time *c);                           /* 12:26:40 */
void text_civil_time(text *t, const civil_time *c, const char *between); /* 2020-09-13 12:26:40.5 */

bool has_field(const dnstap_message *m, int field);
void text_enum(text *t, uint32_t value, const char *name); /* name NULL: as a number */
/* 4 or 16 bytes as an address, others in hex behind a ?, none as <nil>. */
void text_address(text *t, dnstap_bytes address);
/* A policy's rule is a name where it looks like one, its value is what `match` says; else they are
 * put there as they are. */
void text_policy_rule(text *t, const dnstap_policy *p);
void text_policy_value(text *t, const dnstap_policy *p);

#endif
