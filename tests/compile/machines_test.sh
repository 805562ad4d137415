#!/bin/sh
# The unit tests on other machines than this one: s390x (big endian, 64 bits) under qemu, and x86
# of 32 bits, by the kernel where it can, else under qemu. Their libraries are packages of that
# machine, fetched into build/.
# usage: tests/compile/machines_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"

packages='libcmocka0 libcmocka-dev libprotobuf-c1 libprotobuf-c-dev libnanopb-dev libbearssl0
    libbearssl-dev'

# MACHINE TEST: builds and runs one
try() {
    name=$(basename "$2" .c)
    if ! $compiler -std=c99 -O1 -I. -I"$build/gen" -idirafter "$root/usr/include" \
        '-DDNSTAP_ASSERT(x)=((x) ? (void)0 : abort())' "$2" "$build/gen/dnstap.pb-c.c" \
        -o "$out/$name" -L"$libraries" -lprotobuf-nanopb -lbearssl -lprotobuf-c -lcmocka \
        -lpthread; then
        not_ok "$name compiles for $1"
        return
    fi
    CMOCKA_MESSAGE_OUTPUT=TAP timeout 200 $run "$out/$name" >"$out/$name.log" 2>&1
    status=$?
    count=$(grep -c '^ok [0-9]' "$out/$name.log")
    if [ $status = 0 ] && [ "$count" != 0 ]; then
        ok "$name, $count tests, on $1"
    else
        cat "$out/$name.log"
        not_ok "$name on $1, status $status"
    fi
}

# MACHINE PATTERN: all tests whose names have a word of the pattern, but those for sanitizers
machine() {
    out=$build/machines/$1
    mkdir -p "$out"
    if ! root=$(tests/get-source -a "$1" $packages 2>"$out/packages.log"); then
        tail -n 3 "$out/packages.log"
        skip "$1" 'its packages could not be fetched'
        return
    fi
    libraries=$(dirname "$(ls "$root"/usr/lib/*/libcmocka.so.0)")
    for test in tests/unit/test_*.c; do
        case $test in *tsan*) continue ;; esac
        echo "$test" | grep -q -E "$2" && try "$1" "$test"
    done
}

built gen/dnstap.pb-c.o || exit 1

compiler=s390x-linux-gnu-gcc
run="qemu-s390x -L /usr/s390x-linux-gnu -E LD_LIBRARY_PATH=build/root-s390x/usr/lib/s390x-linux-gnu"
if why=$(missing $compiler qemu-s390x); then
    skip s390x "$why"
else
    machine s390x 'codec|frame|ring|message|corpus|extra(_fuzz)?\.c'
fi

compiler="gcc-12 -m32 -idirafter /usr/include/$(gcc-12 -print-multiarch)" # <asm/…>
run='env LD_LIBRARY_PATH=build/root-i386/usr/lib/i386-linux-gnu'
echo 'int main(void) { return 0; }' >"$build/word.c"
if ! $compiler "$build/word.c" -o "$build/word" 2>/dev/null; then
    skip i386 'gcc makes no programs of 32 bits; install gcc-12-multilib'
else
    "$build/word" 2>/dev/null || run="qemu-i386 -E LD_LIBRARY_PATH=${run#*=}"
    machine i386 \
        'codec|decode|frame|ring|message|edges|faults|tap_files|life|tls\.c|extra(_fuzz)?\.c'
fi
finish
