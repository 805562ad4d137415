#!/bin/sh
# dnstap.h compiles wherever it is put: C99 and C++11, gcc and clang, every warning an error;
# whatever is around it, whatever is left out. use.c is the program it is linked with.
# usage: tests/compile/compile_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh
mkdir -p "$out/nanopb" "$out/bare"

# ---- the sources ----
system='#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>'
file api.c "$include" "$include" "$system" 'int main(void) { return DNSTAP_OK; }'
file first.c "$implement" "$include" "$system" "$include"
file last.c "$system" "$include" "$implement" "$include"
file static.c '#define DNSTAP_STATIC' "$implement" '#include "tests/compile/use.c"'
file bare.c "$implement" "$include"
file whole.c "$implement" '#include "tests/compile/use.c"'

# ---- languages and compilers ----
for compiler in gcc clang g++ clang++; do
    case $compiler in *++) flags=$cpp ;; *) flags=$c ;; esac
    check "API alone with $compiler" $compiler $flags -c "$out/api.c" -o "$out/api.o"
    check "included first with $compiler" $compiler $flags -O2 -c "$out/first.c" -o "$out/first.o"
    check "included last with $compiler and POSIX asked for" \
        $compiler $flags -D_POSIX_C_SOURCE=200809L -c "$out/last.c" -o "$out/last.o"
    check "included last with $compiler and GNU asked for" \
        $compiler $flags -U_GNU_SOURCE -D_GNU_SOURCE -c "$out/last.c" -o "$out/last.o"
    check "two files of one program with $compiler" \
        $compiler $flags "$out/first.c" tests/compile/use.c -o "$out/two" $libs
    check 'what was logged comes out' "$out/two"
    check "DNSTAP_STATIC with $compiler" $compiler $flags -O2 -c "$out/static.c" -o "$out/static.o"
    # in C++ names are mangled unless they are extern "C"
    check "only dnstap_ names are exported by $compiler" \
        sh -c "! nm -g --defined-only $out/first.o | grep -v ' dnstap_[a-z]'"
    check "nothing is exported with DNSTAP_STATIC by $compiler" \
        sh -c "! nm -g --defined-only $out/static.o | grep -v ' main\$'"
done
if gcc $c -c "$out/last.c" -o "$out/last.o" 2>"$out/error"; then
    not_ok 'included last under -std=c99 without POSIX it says what to define'
else
    check 'included last under -std=c99 without POSIX it says what to define' \
        grep -q "#error.*_POSIX_C_SOURCE" "$out/error"
fi

# ---- beside generated code of the user's ----
sed '/nanopb/d' proto/dnstap.proto >"$out/nanopb/dnstap.proto"
check 'nanopb generates a dnstap.pb.h for the user' \
    protoc --nanopb_out="$out/nanopb" --proto_path="$out/nanopb" dnstap.proto
built gen/dnstap.pb-c.o
for order in FIRST THEN; do
    for theirs in dnstap.pb.h dnstap.pb-c.h; do
        # what comes FIRST fixes what the system's headers offer
        paths="-isystem $out/nanopb -isystem $build/gen -D_POSIX_C_SOURCE=200809L"
        check "$theirs of the user's, $order" gcc $c $paths "-D$order=\"$theirs\"" "$out/whole.c" \
            "$out/nanopb/dnstap.pb.c" "$build/gen/dnstap.pb-c.o" -o "$out/beside" $libs -lprotobuf-c
        check 'what was logged comes out' "$out/beside"
        check "$theirs of the user's, $order, C++" g++ $cpp $paths "-D$order=\"$theirs\"" \
            -c "$out/whole.c" -o "$out/beside.o"
    done
done

# ---- without parts ----
# switch: symbols that may not be referred to any more
left_out='DNSTAP_NO_THREADS pthread_.*
DNSTAP_NO_SOCKETS socket|connect|bind|accept|getaddrinfo
DNSTAP_NO_FILES pread|ftruncate
DNSTAP_NO_MALLOC malloc|calloc|realloc|free
DNSTAP_NO_TLS br_.*'
without() { # WHAT DEFINES...
    what=$1
    shift
    check "without $what" gcc $c "$@" -O1 "$out/whole.c" -o "$out/without" $libs
    check "without $what, what was logged comes out" "$out/without"
    check "without $what, static" gcc $c "$@" -c "$out/static.c" -o "$out/static.o"
    check "without $what, C++" clang++ $cpp "$@" -c "$out/whole.c" -o "$out/without.o"
}
switches=$(sed -n 's/^ *#.*\(DNSTAP_NO_[A-Z]*\).*/\1/p' dnstap.h | sort -u)
all=
for switch in $switches; do
    without "$switch" "-D$switch"
    all="$all -D$switch"
    symbols=$(echo "$left_out" | sed -n "s/^$switch //p")
    [ "$symbols" ] || continue
    check "$switch leaves no reference" sh -c "! nm -u $out/without.o | grep -E ' U ($symbols)\$'"
done
[ -z "$all" ] || without 'all of them' $all

# ---- bare metal ----
if why=$(missing arm-none-eabi-gcc); then
    skip 'Cortex-M3' "$why"
else
    cp /usr/include/pb*.h "$out/bare"
    check 'Cortex-M3, short enums' arm-none-eabi-gcc $c -Os -mcpu=cortex-m3 -mthumb \
        -isystem "$out/bare" $all -c "$out/bare.c" -o "$out/bare.o"
    check 'Cortex-M3 needs no operating system' sh -c \
        "! arm-none-eabi-nm -u $out/bare.o |
            grep -v -E ' (pb_|mem|str|v?snprintf|__aeabi|__errno)'"
fi

# ---- installed ----
root=$out/root
built dnstap
file dnstap.1 '.TH DNSTAP 1'
settings="DESTDIR=$root PREFIX=/usr pages=$out/dnstap.1"
check 'make install' ${MAKE:-make} -s install $settings
export PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_LIBDIR="$root/usr/share/pkgconfig"
check 'a program builds with what pkg-config says' sh -c "cd $out && gcc -w -include first.c \
    ../../tests/compile/use.c -o installed \$(pkg-config --cflags --libs dnstap)"
check 'what was logged comes out' "$out/installed"
check 'the tool is installed' sh -c "$root/usr/bin/dnstap --help | grep -q -i usage"
check 'its pages are installed' cmp "$out/dnstap.1" "$root/usr/share/man/man1/dnstap.1"
check 'bash completes its flags' bash -c ". $root/usr/share/bash-completion/completions/dnstap
    compopt() { :; }
    COMP_WORDS=(dnstap --rot) COMP_CWORD=1 && _dnstap &&
    [ \"\${COMPREPLY[*]}\" = '--rotate-size --rotate-time' ]"
service=$root/usr/lib/systemd/system/dnstap.service
if ! missing systemd-analyze; then
    sed "s,^ExecStart=,&$root," "$service" >"$out/dnstap.service"
    check 'its unit is a unit' systemd-analyze verify --man=no "$out/dnstap.service"
    check 'its unit is confined' sh -c "systemd-analyze security --offline=yes --threshold=10 \
        $out/dnstap.service >/dev/null"
else
    skip 'its unit is a unit' 'systemd-analyze is not installed'
fi
renamed() { # where Debian's own dnstap is
    unit=$out/other/opt/lib/systemd/system/dnstap-h.service
    ${MAKE:-make} -s install DESTDIR="$out/other" PREFIX=/opt TOOL=dnstap-h &&
        (cd "$out/other/opt" && find . -type f | grep dnstap | sort) >"$out/files" &&
        "$out/other/opt/bin/dnstap-h" --version >"$out/version" &&
        grep -q '^.ds T dnstap-h$' "$out/other/opt/share/man/man1/dnstap-h.1" &&
        grep -q 'F _dnstap dnstap-h$' "$out/other/opt/share/bash-completion/completions/dnstap-h" &&
        grep -q '^ExecStart=/opt/bin/dnstap-h ' "$unit" &&
        ${MAKE:-make} -s uninstall DESTDIR="$out/other" PREFIX=/opt TOOL=dnstap-h &&
        [ -z "$(find "$out/other" -type f)" ]
}
check 'the tool is installed under another name' renamed
pages_are_sound() {
    for page in examples/dnstap/*.1; do
        man -l --warnings -Tutf8 "$page" 2>&1 >/dev/null | grep . && return 1
    done
    for flag in $("$build/dnstap" --help | grep -o -E -e '(^|[ (])--?[a-zA-Z][a-z-]*'); do
        sed 's/\\-/-/g' examples/dnstap/dnstap.1 | grep -q -F -e "${flag#[ (]}" ||
            { echo "$flag is not in the page"; return 1; }
    done
}
if ! missing man; then check 'the page has all flags of the help' pages_are_sound; fi
touch "$root/usr/bin/another"
check 'make uninstall' ${MAKE:-make} -s uninstall $settings
check 'nothing is left of it, and what is not of it is' \
    sh -c "[ \"\$(cd $root && find . -type f)\" = ./usr/bin/another ]"

# ---- the programs around it; the unit tests share helpers that not each of them uses ----
for compiler in gcc clang; do
    for source in examples/*.c examples/*/*.c tests/unit/*.c tests/interop/*.c tests/tool/*.c; do
        [ -f "$source" ] || continue
        case $source in examples/firmware/*) continue ;; esac # for another machine
        case $source in tests/unit/*) unused=-Wno-unused-function ;; *) unused= ;; esac
        check "$source with $compiler" \
            $compiler $c $unused -fsyntax-only -isystem "$build/gen" "$source"
    done
done

finish
