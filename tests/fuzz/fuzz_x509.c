/* Hostile certificates and keys: mutates chains and keys, and lets the TLS code read them. Build it
 * and BearSSL under AddressSanitizer, as tests/fuzz/x509_test.sh does:
 *   fuzz_x509 COUNT SEED CA.pem CHAIN.pem... [-- KEY.pem...]
 * What must hold: no report of the sanitizer; a chain is accepted only if what is signed in its
 * leaf is as the CA signed it; every refusal has a text. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "../random.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHAINS = 32, CERTIFICATES = 4, MOST = 16384 };

typedef struct bytes {
    uint8_t data[MOST];
    size_t size;
} bytes;

typedef struct chain {
    bytes certificates[CERTIFICATES];
    size_t count;
} chain;

static chain chains[CHAINS];
static size_t chain_count;
static bytes keys[CHAINS];
static size_t key_count;
static unsigned long accepted, refused, skipped_ok, skipped_bad, keys_ok, keys_bad, texts;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

/* ---- mutation ---- */

/* Lengths and tags decide what a decoder does next: half of the changes go to one of them. */
static size_t interesting(const bytes *b)
{
    size_t at = 0, step, depth;

    for (depth = rnd(12); depth && at + 4 < b->size; depth--) {
        step = b->data[at + 1] == 0x82 ? 4 : b->data[at + 1] == 0x81 ? 3 : 2;
        if (!(b->data[at] & 0x20) || rnd(3) == 0) { /* over it, else into it */
            if (step == 4)
                step += (size_t)b->data[at + 2] << 8 | b->data[at + 3];
            else
                step += step == 3 ? b->data[at + 2] : b->data[at + 1];
        }
        if (at + step + 4 >= b->size) break;
        at += step;
    }
    return at + rnd(4);
}

static void change(bytes *b, const bytes *other)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0x81, 0x82, 0x83, 0x84, 0xff, 0x30, 0x04, 0x03};
    size_t at = rnd(2) ? interesting(b) : rnd((uint32_t)b->size), n = 1 + rnd(32), from;

    if (at >= b->size) return;
    switch (rnd(8)) {
    case 0:
        b->data[at] ^= (uint8_t)(1u << rnd(8));
        break;
    case 1:
        b->data[at] = odd[rnd(sizeof odd)];
        break;
    case 2:
        b->data[at] = (uint8_t)rnd(256);
        break;
    case 3:
        b->size = at + 1;
        break;
    case 4: /* take bytes out */
        if (at + n >= b->size) break;
        memmove(b->data + at, b->data + at + n, b->size - at - n);
        b->size -= n;
        break;
    case 5: /* put bytes in */
        if (b->size + n > MOST) break;
        memmove(b->data + at + n, b->data + at, b->size - at);
        b->size += n;
        break;
    case 6: /* put bytes of another over it */
        from = rnd((uint32_t)other->size);
        if (n > b->size - at) n = b->size - at;
        if (n > other->size - from) n = other->size - from;
        memcpy(b->data + at, other->data + from, n);
        break;
    default:
        b->data[at]++;
        break;
    }
}

static const bytes *any_certificate(void)
{
    const chain *c = &chains[rnd((uint32_t)chain_count)];

    return &c->certificates[rnd((uint32_t)c->count)];
}

static void mutate(chain *c)
{
    uint32_t changes = rnd(5);

    *c = chains[rnd((uint32_t)chain_count)];
    if (rnd(16) == 0) c->certificates[rnd((uint32_t)c->count)] = *any_certificate();
    if (rnd(16) == 0 && c->count < CERTIFICATES) c->certificates[c->count++] = *any_certificate();
    if (rnd(64) == 0) c->count = rnd(2);
    while (changes-- && c->count)
        change(&c->certificates[rnd((uint32_t)c->count)], any_certificate());
}

/* ---- the two classes ---- */

/* As BearSSL's engine hands a chain over: in pieces of up to 256 bytes. */
static unsigned walk(const br_x509_class **class_, const chain *c, const char *name)
{
    size_t i, at, n;

    (*class_)->start_chain(class_, name);
    for (i = 0; i < c->count; i++) {
        (*class_)->start_cert(class_, (uint32_t)c->certificates[i].size);
        for (at = 0; at < c->certificates[i].size; at += n) {
            n = 1 + rnd(rnd(4) ? 256 : 8);
            if (n > c->certificates[i].size - at) n = c->certificates[i].size - at;
            (*class_)->append(class_, c->certificates[i].data + at, n);
        }
        (*class_)->end_cert(class_);
    }
    return (*class_)->end_chain(class_);
}

/* What is signed in a certificate: its first element. */
static dnstap__der signed_part(const bytes *b)
{
    dnstap__der r, inner, part = {NULL, NULL};
    unsigned tag;

    r.at = b->data;
    r.end = b->data + b->size;
    if (!dnstap__der_next(&r, &tag, &inner)) return part;
    part.at = inner.at;
    if (!dnstap__der_next(&inner, &tag, &r)) return part;
    part.end = inner.at;
    return part;
}

static bool leaf_is_known(const bytes *leaf)
{
    dnstap__der a = signed_part(leaf), b;
    size_t i;

    for (i = 0; i < chain_count; i++) {
        b = signed_part(&chains[i].certificates[0]);
        if (a.end - a.at == b.end - b.at && memcmp(a.at, b.at, (size_t)(a.end - a.at)) == 0)
            return true;
    }
    return false;
}

static void use_key(const br_x509_class **class_)
{
    unsigned usages = 0, sum = 0;
    const br_x509_pkey *key = (*class_)->get_pkey(class_, &usages);
    size_t i;

    if (!key || !usages) die("accepted without a key");
    if (key->key_type == BR_KEYTYPE_RSA) {
        for (i = 0; i < key->key.rsa.nlen; i++) sum += key->key.rsa.n[i];
        for (i = 0; i < key->key.rsa.elen; i++) sum += key->key.rsa.e[i];
    } else {
        for (i = 0; i < key->key.ec.qlen; i++) sum += key->key.ec.q[i];
    }
    random_state ^= (uint64_t)(sum & 1) << 63;
}

static void verify(dnstap__tls *t, const chain *c)
{
    unsigned code;

    dnstap__tls_set_client(t);
    code = walk(&t->verifier.vtable, c, t->config->name[0] ? t->config->name : NULL);
    if (!code) {
        accepted++;
        if (!leaf_is_known(&c->certificates[0])) die("a changed leaf was accepted");
        use_key(&t->verifier.vtable);
        return;
    }
    refused++;
    (void)dnstap__tls_say_code(t, (int)code);
    if (strlen(t->error.text) < 10) die("no text");
    texts += strlen(t->error.text);
}

/* What lies behind the decoder in the verifier is poisoned: it must not be touched. */
static void skip(dnstap__tls *t, const chain *c)
{
    uint8_t *behind = (uint8_t *)(&t->verifier.as.decoder + 1);
    uint8_t *end = (uint8_t *)&t->verifier.config;
    unsigned code;

    dnstap__tls_set_client(t);
    __asan_poison_memory_region(behind, (size_t)(end - behind));
    __asan_poison_memory_region(t->verifier.leaf, sizeof t->verifier.leaf);
    code = walk(&t->verifier.vtable, c, NULL);
    if (!code) use_key(&t->verifier.vtable);
    __asan_unpoison_memory_region(behind, (size_t)(end - behind));
    __asan_unpoison_memory_region(t->verifier.leaf, sizeof t->verifier.leaf);
    if (code)
        skipped_bad++;
    else
        skipped_ok++;
}

/* ---- files ---- */

/* Loads b as a block, which ends where its memory ends. */
static int load_block(dnstap__tls_kind kind, const bytes *b, uint8_t *memory, size_t size)
{
    dnstap__tls_store store;
    dnstap_error error;
    dnstap_bytes block;
    uint8_t *copy = (uint8_t *)malloc(b->size);
    int result;

    if (!copy) die("no memory");
    memcpy(copy, b->data, b->size);
    block = dnstap_bytes_of(copy, b->size);
    memset(&store, 0, sizeof store);
    store.arena.base = memory;
    store.arena.size = size;
    result = dnstap__tls_load_one(&store, kind, NULL, &block, &error);
    if (result == DNSTAP_OK && kind == DNSTAP__TLS_KEY)
        (void)dnstap__tls_check_key(&store, "", "", &error);
    if (result != DNSTAP_OK && strlen(error.text) < 10) die("no text");
    free(copy);
    return result;
}

static void load_key(void)
{
    static const dnstap__tls_kind kinds[] = {DNSTAP__TLS_CA, DNSTAP__TLS_CERT};
    size_t size = rnd(4) ? 4096 : 16 * rnd(128);
    uint8_t *memory = (uint8_t *)malloc(size ? size : 1);
    bytes b = keys[rnd((uint32_t)key_count)];
    uint32_t changes = rnd(5);

    if (!memory) die("no memory");
    while (changes--) change(&b, &keys[rnd((uint32_t)key_count)]);
    if (load_block(DNSTAP__TLS_KEY, &b, memory, size) == DNSTAP_OK)
        keys_ok++;
    else
        keys_bad++;
    b = *any_certificate();
    change(&b, any_certificate());
    (void)load_block(kinds[rnd(2)], &b, memory, size);
    free(memory);
}

/* ---- setting up ---- */

static uint8_t arena_memory[1 << 16];

/* The certificates, or else the key, of a PEM file. */
static dnstap__tls_store read_pem(const char *path, dnstap__tls_kind kind)
{
    dnstap__tls_store store;
    dnstap_error error;

    memset(&store, 0, sizeof store);
    store.arena.base = arena_memory;
    store.arena.size = sizeof arena_memory;
    if (dnstap__tls_load_one(&store, kind, path, NULL, &error) != DNSTAP_OK) die(error.text);
    return store;
}

static void read_chain(const char *path)
{
    dnstap__tls_store store = read_pem(path, DNSTAP__TLS_CERT);
    chain *c = &chains[chain_count++];

    for (c->count = 0; c->count < store.chain_count && c->count < CERTIFICATES; c->count++) {
        bytes *b = &c->certificates[c->count];
        b->size = store.chain[c->count].data_len;
        if (b->size > MOST) die("certificate too large");
        memcpy(b->data, store.chain[c->count].data, b->size);
    }
}

static void read_key(const char *path)
{
    FILE *file = fopen(path, "rb");
    bytes *b = &keys[key_count++];

    if (!file) die(path);
    b->size = fread(b->data, 1, sizeof b->data, file);
    fclose(file);
}

static void add_number(bytes *b, size_t size)
{
    b->data[b->size++] = 0x02;
    b->data[b->size++] = 0x82;
    b->data[b->size++] = (uint8_t)(size >> 8);
    b->data[b->size++] = (uint8_t)size;
    b->data[b->size++] = 0x7f;
    while (--size) b->data[b->size++] = (uint8_t)rnd(256);
}

/* PKCS#1 with two primes, of any number of bits: not a key that works, but one that decodes. */
static void make_rsa_key(size_t bits)
{
    bytes *b = &keys[key_count++];
    int i;

    memcpy(b->data, "\x30\x82\0\0\x02\x01\0", 7);
    b->size = 7;
    add_number(b, bits / 8);
    memcpy(b->data + b->size, "\x02\x03\x01\0\x01", 5);
    b->size += 5;
    add_number(b, bits / 8);
    for (i = 0; i < 5; i++) add_number(b, bits / 16);
    b->data[2] = (uint8_t)((b->size - 4) >> 8);
    b->data[3] = (uint8_t)(b->size - 4);
}

static dnstap__tls *make_connection(const dnstap_options *o, const char *host)
{
    dnstap__tls_settings set = dnstap__tls_settings_of(o, host);
    dnstap__arena arena = {NULL, 0, SIZE_MAX, false};
    dnstap__tls_config *config;
    dnstap_transport none;
    dnstap_error error;
    dnstap__tls *t;

    set.endpoint = "";
    (void)dnstap__tls_carve_config(&arena, &set);
    arena.size = arena.used;
    arena.used = 0;
    arena.base = (uint8_t *)malloc(arena.size);
    if (!arena.base) die("no memory");
    config = dnstap__tls_carve_config(&arena, &set);
    t = (dnstap__tls *)calloc(1, sizeof *t);
    if (!config || !t) die("no memory");
    if (dnstap__tls_load(config, &set, &error) != DNSTAP_OK) die(error.text);
    memset(&none, 0, sizeof none);
    dnstap__tls_init(t, config, &none);
    t->input_size = 4096;
    t->input = (uint8_t *)malloc(t->input_size);
    t->output_size = 4096;
    t->output = (uint8_t *)malloc(t->output_size);
    t->verifier.now = dnstap__unix_time(NULL);
    return t;
}

int main(int argc, char **argv)
{
    static dnstap_options strict, lax;
    static chain c;
    dnstap__tls *by_name, *by_address, *unverified;
    unsigned long count, i;
    int arg;

    if (argc < 5) die("usage: fuzz_x509 COUNT SEED CA.pem CHAIN.pem... [-- KEY.pem...]");
    count = strtoul(argv[1], NULL, 10);
    random_seed(strtoull(argv[2], NULL, 10));
    strict.ca_file = argv[3];
    lax.skipverify = true;
    for (arg = 4; arg < argc && strcmp(argv[arg], "--") && chain_count < CHAINS; arg++)
        read_chain(argv[arg]);
    for (arg++; arg < argc && key_count < CHAINS - 3; arg++) read_key(argv[arg]);
    for (i = 4096; i <= 8192; i += 2048) make_rsa_key(i);
    by_name = make_connection(&strict, "server.test");
    by_address = make_connection(&strict, "127.0.0.1");
    unverified = make_connection(&lax, NULL);
    for (i = 0; i < count; i++) {
        mutate(&c);
        verify(i % 2 ? by_name : by_address, &c);
        skip(unverified, &c);
        load_key();
    }
    printf(
        "%lu chains: verified %lu, refused %lu; skipverify took %lu, refused %lu; keys loaded %lu, "
        "refused %lu; texts of %lu bytes\n",
        count, accepted, refused, skipped_ok, skipped_bad, keys_ok, keys_bad,
        texts / (refused ? refused : 1));
    if (!accepted || !skipped_ok || !keys_ok) die("nothing was ever accepted: the test is blind");
    return 0;
}
