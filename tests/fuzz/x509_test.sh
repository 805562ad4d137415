#!/bin/sh
# Hostile certificates and keys against both verifiers, with BearSSL from source under
# AddressSanitizer. 3,000 chains; with TEST_LONG, or make test-long, 60,000.
# usage: x509_test.sh [BUILD]
build=$(cd "${1:-build}" && pwd)
cd "$(dirname "$0")/../.." || exit 1
. tests/fuzz/x509_lib.sh
bearssl_asan || { echo "skip - mutated chains: no source of BearSSL"; exit 0; }
program=$build/fuzz_x509
# shellcheck disable=SC2086
${CC:-cc} -std=c99 -O1 -g -I${DNSTAP_INCLUDE:-.} -I"$source/inc" -D_DEFAULT_SOURCE $sanitize \
    tests/fuzz/fuzz_x509.c "$library" -lbearssl -lprotobuf-nanopb -lpthread -o "$program" ||
    { echo 'not ok - fuzz_x509 builds'; exit 1; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
make_chains "$dir" || { echo 'not ok - certificates are made'; exit 1; }
count=3000
[ -z "${TEST_LONG:-}" ] || count=60000
seed=${SEED:-$(date +%s)}
if (cd "$dir" && "$program" "$count" "$seed" ca.pem good.pem rsa.pem chain.pem name.pem huge.pem \
    address.pem many.pem -- ec.der rsa.der pkcs1.der sec1.der ec.key rsa.key); then
    echo "ok - $count mutated chains and keys, seed $seed"
else
    echo "not ok - $count mutated chains and keys, seed $seed"
    exit 1
fi
