#!/bin/sh
# Hostile certificates and keys against both verifiers, with BearSSL from source under
# AddressSanitizer. 3,000 chains; with TEST_LONG, or make test-long, 60,000.
# usage: x509_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/fuzz/x509_lib.sh
bearssl_asan || { skip 'mutated chains' 'no source of BearSSL' && finish; }
program=$build/fuzz_x509
# shellcheck disable=SC2086
${CC:-cc} -std=c99 -O1 -g -I${DNSTAP_INCLUDE:-.} -I"$source/inc" -D_DEFAULT_SOURCE $sanitize \
    tests/fuzz/fuzz_x509.c "$library" -lbearssl -lprotobuf-nanopb -lpthread -o "$program" ||
    { not_ok 'fuzz_x509 builds' && finish; }
make_chains "$dir" || { not_ok 'certificates are made' && finish; }
count=3000
[ -z "${TEST_LONG:-}" ] || count=60000
seed=${SEED:-$(date +%s)}
cd "$dir" || exit 1
check "$count mutated chains and keys, seed $seed" "$program" "$count" "$seed" ca.pem good.pem \
    rsa.pem chain.pem name.pem huge.pem address.pem many.pem -- ec.der rsa.der pkcs1.der sec1.der \
    ec.key rsa.key
finish
