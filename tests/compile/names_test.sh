#!/bin/sh
# No name of dnstap.h's meets one of a server's or of the system's: macros of a server that are
# called as something in the schema, and every header of POSIX and Linux that a server includes, all
# of them before dnstap.h; and the warnings that such servers switch on.
# usage: tests/compile/names_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh

file api.c '#include FIRST' "$include" 'int main(void) { return DNSTAP_OK; }'
file whole.c "$implement" '#include "tests/compile/use.c"'

# in C and C++, by gcc and clang: the API alone; and the implementation, in a program that runs
after() { # WHAT FIRST [FLAG...]
    what=$1 first=-DFIRST=\"$2\"
    shift 2
    for compiler in gcc clang g++ clang++; do
        case $compiler in *++) language=$cpp ;; *) language=$c ;; esac
        flags="$language -U_GNU_SOURCE -D_GNU_SOURCE -I$out $*"
        check "API after $what with $compiler" $compiler $flags "$first" -fsyntax-only "$out/api.c"
        check "implementation after $what with $compiler" \
            $compiler $flags "$first" "$out/whole.c" -o "$out/program" $libs
        check 'what was logged comes out' "$out/program"
    done
}

# ---- what the system has ----
after 'the headers of POSIX and Linux' tests/compile/system.h
# Linux's own come first, where what we include ourselves can be included after them at all.
sed -n 's/^#include <.*/&/p' dnstap.h | sort -u >"$out/ours.h"
sed -n 's/^#include <\(linux\/.*\)>/\1/p' tests/compile/system.h |
    while read -r header; do
        file alone.c "#include <$header>" '#include "ours.h"'
        ! gcc -std=gnu99 -D_GNU_SOURCE -I"$out" -fsyntax-only "$out/alone.c" 2>/dev/null ||
            echo "#include <$header>"
    done >"$out/linux.h"
check 'there are such headers' [ "$(wc -l <"$out/linux.h")" -ge 20 ]
after "Linux's headers alone" linux.h
after '<linux/tcp.h>, which does not go with <netinet/tcp.h>' linux/tcp.h

# ---- what a server has ----
# The constants of the schema, those of the library without their beginning, and what else is
# common: if one was replaced, nothing would compile.
common_names='STATIC CALLBACK OPTIONAL REQUIRED SINGULAR REPEATED BYTES STRING UINT32 UINT64 FIXED32
    POINTER AUTO TRUE FALSE ERROR WARNING INFO DEBUG OK FAIL IN OUT MIN MAX UNUSED QUERY RESPONSE
    STATUS NOERROR SERVFAIL REFUSED NULLADDR TLS MSG FAMILY PROTOCOL HTTP ACTION MATCH X T_A C_IN
    AAAA CLASS TYPE NAME VALUE BUSY VERSION EMPTY'
{
    sed -n 's/^ *\([A-Za-z0-9_]*\) = [0-9]*;.*/\1/p' proto/dnstap.proto
    sed -n 's/^ *X(DNSTAP_\([A-Z_]*\),.*/\1/p' dnstap.h
    printf '%s\n' $common_names
} | sort -u | sed 's/.*/#define & (-= the own & of the server)/' >"$out/constants.h"
check 'the constants of the schema are among them' grep -q ' NXDOMAIN ' "$out/constants.h"
after 'macros called as constants are' constants.h

# A macro for one of our fields renames it, here and in the files of that server.
sed -n 's/^ *\(optional\|required\) [A-Za-z0-9]* *\([a-z_]*\) .*/\2/p' proto/dnstap.proto |
    sort -u | sed 's/.*/#define & server_&/' >"$out/fields.h"
check 'the fields of the schema are among them' grep -q ' query_port ' "$out/fields.h"
after 'macros called as fields are' fields.h

# A macro with arguments, as <tgmath.h> has for log, and lwIP for send and close.
{
    sed '/<linux/d' tests/compile/system.h
    sed -n 's/.*(\*\([a-z_]*\))(void \*[a-z]*[,)].*/\1/p' dnstap.h | sort -u |
        sed 's/.*/#undef &\n#define &(...) (&)(__VA_ARGS__)/'
} >"$out/calls.h"
check 'the callbacks are among them' grep -q 'send(...)' "$out/calls.h"
after 'macros called as callbacks are' calls.h

# <ldns/ldns.h> makes bool something else, unless it is there.
file ldns.h '#include <stdbool.h>' '#include <ldns/ldns.h>'
after '<ldns/ldns.h>' ldns.h -Wno-error=pedantic

# ---- what servers want to be warned of, each of them something else ----
strict='-Wcast-align -Wpointer-arith -Wwrite-strings -Wredundant-decls -Wmissing-declarations
    -Wformat=2 -Wformat-nonliteral -Wswitch-default -Wnull-dereference -Wdouble-promotion
    -Wfloat-equal -Wunused-macros -Winit-self -Wpacked -Wdate-time -Wimplicit-fallthrough
    -Wtype-limits -Wunreachable-code -Winline -Wmissing-noreturn'
gcc_only='-Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wtrampolines -Wcast-align=strict
    -Warith-conversion -Wmissing-format-attribute -Wstack-usage=8192'
c_only='-Wbad-function-cast -Wnested-externs -Wold-style-definition -Wdeclaration-after-statement
    -Wc++-compat'
in_api='-Wold-style-cast -Wzero-as-null-pointer-constant -Wextra-semi -Wswitch-enum'
file include.c "$include"
file implement.c "$implement" "$include"
for source in include implement; do
    more=$in_api
    [ $source = include ] || more=
    check "$source: warnings of gcc" \
        gcc $c -O2 $strict $gcc_only $c_only -Wjump-misses-init -c "$out/$source.c" -o "$out/o"
    check "$source: warnings of clang" clang $c -O2 $strict $c_only -c "$out/$source.c" -o "$out/o"
    check "$source: warnings of g++" \
        g++ $cpp -O2 $strict $gcc_only $more -c "$out/$source.c" -o "$out/o"
    check "$source: warnings of clang++" \
        clang++ $cpp -O2 $strict $more -c "$out/$source.c" -o "$out/o"
done

finish
