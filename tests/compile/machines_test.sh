#!/bin/sh
# The unit tests on other machines than this one, and with another C library. In each make test:
# s390x (big endian, 64 bits) under qemu, and x86 of 32 bits, by the kernel where it can, else
# under qemu. MACHINES: names of others, or all: also powerpc (big endian, 32 bits), arm64, armhf,
# riscv64, musl (static), windows (what needs no sockets, under wine), and elsewhere: Linux that
# looks like another system. Their libraries are packages of that machine, fetched into build/, or
# made from their sources.
# usage: tests/compile/machines_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"

packages='libcmocka0 libcmocka-dev libprotobuf-c1 libprotobuf-c-dev libnanopb-dev libbearssl0
    libbearssl-dev'
common='-std=c99 -O1 -I. -Itests/unit'
most='codec|decode|frame|ring|message|text|edges|faults|tap_files|life|test_tls\.c|extra(_fuzz)?\.c'
export CMOCKA_MESSAGE_OUTPUT=TAP WINEDEBUG=-all WINEPREFIX="$build/wine"
machines=${MACHINES-s390x i386}
[ "$machines" != all ] ||
    machines='s390x i386 powerpc arm64 armhf riscv64 musl windows elsewhere'

# MACHINE TEST: builds and runs one
try() {
    name=$(basename "$2" .c)
    # shellcheck disable=SC2086 # flags
    if ! $compiler $common -I"$build/gen" $headers '-DDNSTAP_ASSERT(x)=((x) ? (void)0 : abort())' \
        "$2" "$build/gen/dnstap.pb-c.c" -o "$out/$name" $libraries -lpthread 2>"$out/warnings"; then
        cat "$out/warnings"
        not_ok "$name compiles for $1"
        return
    fi
    [ ! -f "$out/$name.exe" ] || mv "$out/$name.exe" "$out/$name"
    timeout 300 $run "$out/$name" >"$out/$name.log" 2>&1
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
try_all() {
    for test in tests/unit/test_*.c; do
        case $test in *tsan*) continue ;; esac
        echo "$test" | grep -q -E "$2" && try "$1" "$test"
    done
}

# ARCH PATTERN: with that architecture's packages
packaged() {
    out=$build/machines/$1
    mkdir -p "$out"
    if ! root=$(tests/get-source -a "$1" $packages 2>"$out/packages.log"); then
        tail -n 3 "$out/packages.log"
        skip "$1" 'its packages could not be fetched'
        return
    fi
    shared=$(dirname "$(ls "$root"/usr/lib/*/libcmocka.so.0)")
    run=$(echo "$run" | sed "s|LIBRARIES|$shared|")
    headers="-idirafter $root/usr/include"
    libraries="-L$shared -lprotobuf-nanopb -lbearssl -lprotobuf-c -lcmocka"
    try_all "$1" "$2"
}

# NAME PATTERN: with libraries made from their sources, static
sourced() {
    out=$build/machines/$1
    mkdir -p "$out/o"
    for package in nanopb bearssl cmocka protobuf-c; do
        if ! source=$(tests/get-source $package 2>"$out/source.log" | tail -n 1); then
            skip "$1" "the source of $package could not be fetched"
            return
        fi
        eval "$(echo $package | tr -d -)=\$source"
    done
    # shellcheck disable=SC2154 # by eval
    headers="-isystem $nanopb -isystem $bearssl/inc -isystem $cmocka/include -isystem $protobufc"
    libraries="-static $out/lib.a"
    if [ ! -f "$out/lib.a" ]; then
        has=$(printf ' -DHAVE_%s_H' SIGNAL SETJMP STDLIB STRING UNISTD INTTYPES STDINT TIME \
            SYS_TYPES)
        (cd "$out/o" && find "$bearssl/src" "$nanopb"/pb*.c "$cmocka/src" "$protobufc/protobuf-c" \
            -name '*.c' | xargs -n 40 -P 2 $compiler -w -O1 $has -DHAVE_STRSIGNAL $endian \
            -I"$bearssl/inc" -I"$bearssl/src" -I"$nanopb" -I"$cmocka/include" -I"$protobufc" -c) &&
            "$(command -v "${compiler%%gcc*}ar" || echo ar)" rcs "$out/lib.a" "$out"/o/*.o || {
            not_ok "the libraries for $1"
            return
        }
    fi
    try_all "$1" "$2"
}

# NAME PATTERN: with the libraries of this machine
native() {
    out=$build/machines/$1
    mkdir -p "$out"
    headers='' libraries='-lprotobuf-nanopb -lbearssl -lprotobuf-c -lcmocka'
    try_all "$1" "$2"
}

# KIND NAME COMPILER RUN PATTERN: a machine of which the compiler or qemu may be missing
machine() {
    case " $machines " in *" $2 "*) ;; *) return ;; esac
    compiler=$3 run=$4 endian=
    case $2 in s390x | powerpc) endian=-DWORDS_BIGENDIAN ;; esac
    # shellcheck disable=SC2086 # words
    if why=$(missing ${compiler%% *} ${run%% *}); then
        skip "$2" "$why"
    else
        $1 "$2" "$5"
    fi
}

built gen/dnstap.pb-c.o || exit 1

machine packaged s390x s390x-linux-gnu-gcc \
    'qemu-s390x -L /usr/s390x-linux-gnu -E LD_LIBRARY_PATH=LIBRARIES' \
    'codec|frame|ring|message|corpus|extra(_fuzz)?\.c'

x86='env LD_LIBRARY_PATH=LIBRARIES'
m32="gcc-12 -m32 -idirafter /usr/include/$(gcc-12 -print-multiarch)" # <asm/…>
echo 'int main(void) { return 0; }' >"$build/word.c"
if ! $m32 "$build/word.c" -o "$build/word" 2>/dev/null; then
    skip i386 'gcc makes no programs of 32 bits; install gcc-12-multilib'
else
    "$build/word" 2>/dev/null || x86='qemu-i386 -E LD_LIBRARY_PATH=LIBRARIES'
    machine packaged i386 "$m32" "$x86" "$most"
fi

machine sourced powerpc powerpc-linux-gnu-gcc qemu-ppc "$most"
machine packaged arm64 aarch64-linux-gnu-gcc \
    'qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=LIBRARIES' "$most"
machine packaged armhf arm-linux-gnueabihf-gcc \
    'qemu-arm -L /usr/arm-linux-gnueabihf -E LD_LIBRARY_PATH=LIBRARIES' "$most"
machine sourced riscv64 riscv64-linux-gnu-gcc qemu-riscv64 "$most"
machine sourced musl "musl-gcc -idirafter /usr/include -idirafter
    /usr/include/$(gcc -print-multiarch)" env "$most"
machine sourced windows 'x86_64-w64-mingw32-gcc -D__USE_MINGW_ANSI_STDIO=1 -DDNSTAP_NO_TLS' wine \
    'codec|decode|frame|ring'
machine native elsewhere 'gcc -D_GNU_SOURCE= -include tests/compile/elsewhere.h' env \
    'ring|/test_tls\.c|tap_(files|life|locks|names|process)|listen(_flow)?\.c|loop\.c|sink_dial'
finish
