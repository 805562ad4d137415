#!/bin/sh
# Codec, frames and ring on a big-endian machine with 64 bits: the unit tests, built for s390x and
# run by qemu. Their libraries are s390x packages, fetched into build/.
# usage: tests/compile/big_endian_test.sh [BUILD]
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build}
out=$build/big_endian
mkdir -p "$out"
passed=0 failed=0

finish() {
    echo "$passed passed, $failed failed$1"
    [ $failed = 0 ]
    exit
}
for tool in s390x-linux-gnu-gcc qemu-s390x; do
    if ! command -v $tool >/dev/null; then
        echo "skip - s390x: no $tool"
        finish ', 1 skipped'
    fi
done
packages='libcmocka0 libcmocka-dev libprotobuf-c1 libprotobuf-c-dev libnanopb-dev libbearssl0
    libbearssl-dev'
if ! root=$(tests/get-source -a s390x $packages 2>"$out/packages.log"); then
    tail -n 3 "$out/packages.log"
    echo 'skip - s390x: its packages could not be fetched'
    finish ', 1 skipped'
fi
libraries=$root/usr/lib/s390x-linux-gnu

${MAKE:-make} -s "$build/gen/dnstap.pb-c.o" || exit 1
for source in tests/unit/test_*.c; do
    name=$(basename "$source" .c)
    case $name in *codec* | *frame* | *ring* | *message* | *corpus*) ;; *) continue ;; esac
    case $name in *tsan*) continue ;; esac
    if ! s390x-linux-gnu-gcc -std=c99 -O1 -I. -I"$build/gen" -idirafter "$root/usr/include" \
        "$source" "$build/gen/dnstap.pb-c.c" -o "$out/$name" -L"$libraries" -lprotobuf-nanopb \
        -lbearssl -lprotobuf-c -lcmocka -lpthread; then
        echo "not ok - $name compiles for s390x"
        failed=$((failed + 1))
        continue
    fi
    CMOCKA_MESSAGE_OUTPUT=TAP timeout 200 qemu-s390x -L /usr/s390x-linux-gnu \
        -E LD_LIBRARY_PATH="$libraries" "$out/$name" >"$out/$name.log" 2>&1
    status=$?
    count=$(grep -c '^ok [0-9]' "$out/$name.log")
    if [ $status = 0 ] && [ "$count" != 0 ]; then
        echo "ok - $name, $count tests, on s390x"
        passed=$((passed + 1))
    else
        cat "$out/$name.log"
        echo "not ok - $name on s390x, status $status"
        failed=$((failed + 1))
    fi
done
finish ''
