#!/bin/sh
# Compilers, libraries and settings that are not the usual: dnstap.h compiles there, or says in one
# error what it needs; the API alone compiles nearly everywhere.
# usage: tests/compile/odd_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh

first='#ifdef FIRST
#include FIRST
#endif'
file api.c "$first" "$include" 'int main(void)' '{' '    dnstap_message m;' \
    '    dnstap_message_start(&m, DNSTAP_MSG_AUTH_QUERY);' '    return dnstap_log(NULL, &m);' '}'
file implement.c "$first" "$implement" "$include"
file whole.c "$implement" '#include "tests/compile/use.c"'

one_error() { # NAME TEXT COMMAND...: it fails with this error, and no other
    name=$1 text=$2
    shift 2
    if "$@" >"$out/log" 2>&1; then
        echo "command: $*"
        not_ok "$name: compiled"
    elif grep -q "error:.*$text" "$out/log" &&
        [ "$(grep -c -E '(error|warning):' "$out/log")" = 1 ]; then
        ok "$name"
    else
        head -n 20 "$out/log"
        echo "command: $*"
        not_ok "$name"
    fi
}
all_compiles() { # COMPILER FLAG...
    compiler=$1
    shift
    check "API with $compiler $*" $compiler "$@" -I. -c "$out/api.c" -o "$out/o"
    check "implementation with $compiler $*" $compiler "$@" -I. -c "$out/implement.c" -o "$out/o"
}
api_compiles() { # TEXT COMPILER FLAG...: the implementation says TEXT
    text=$1 compiler=$2
    shift 2
    check "API with $compiler $*" $compiler "$@" -I. -c "$out/api.c" -o "$out/o"
    one_error "implementation with $compiler $*: one error" "$text" \
        $compiler "$@" -I. -c "$out/implement.c" -o "$out/o"
}

# ---- standards, and what they show of the system ----
strict='-Wall -Wextra -Wundef -Werror'
after='-DFIRST=<stdio.h>'
for compiler in gcc clang; do
    for old in -ansi -std=c89 -std=iso9899:199409 '-x c++ -std=c++98'; do
        api_compiles 'needs C99 or C++11' $compiler $strict $old
    done
    all_compiles $compiler $strict -std=gnu89
    all_compiles $compiler $strict -std=gnu99
    for new in c99 c11 c17 gnu2x; do
        all_compiles $compiler $strict -Wpedantic -std=$new
    done
    for new in c++11 gnu++14 c++17 c++20; do
        all_compiles $compiler $strict -Wpedantic -x c++ -std=$new
    done
    all_compiles $compiler $strict -std=c99 -D_XOPEN_SOURCE=500
    all_compiles $compiler $strict -std=c99 -D_XOPEN_SOURCE=700 "$after"
    api_compiles 'needs POSIX.1-2008: include it first' $compiler $strict -std=c99 "$after"
    api_compiles 'needs POSIX.1-2008: include it first' \
        $compiler $strict -std=c99 -D_XOPEN_SOURCE=500 "$after"
    one_error "DNSTAP_STATIC where only the API is included, with $compiler" \
        'the one file that defines DNSTAP_IMPLEMENTATION' \
        $compiler -Wall -DDNSTAP_STATIC -I. -c "$out/api.c" -o "$out/o"
    api_compiles '_Bool is a macro' $compiler -Wall '-DFIRST=<ldns/ldns.h>'
done

# ---- tcc: no __atomic builtins, unless it is new ----
if why=$(missing tcc); then
    skip 'tcc' "$why"
else
    check 'API with tcc' tcc -Wall -Werror -I. -c "$out/api.c" -o "$out/o"
    if echo '__ATOMIC_RELAXED' | tcc -E - | grep -q __ATOMIC; then
        one_error 'implementation with tcc: one error' 'define DNSTAP_LOAD' \
            tcc -Wall -I. -c "$out/implement.c" -o "$out/o"
    fi
    check 'a program with tcc and atomics of its own' tcc -Wall -Werror -I. \
        '-DFIRST="tests/compile/plain_atomics.h"' "$out/whole.c" -o "$out/tcc" $libs
    check 'what was logged comes out' "$out/tcc"
fi

# ---- musl, without the kernel's headers ----
if why=$(missing musl-gcc); then
    skip 'musl' "$why"
else
    mkdir -p "$out/headers"
    cp -r /usr/include/pb*.h /usr/include/bearssl* "$out/headers"
    check 'the kernel has no headers there' \
        sh -c "! echo '#include <linux/membarrier.h>' | musl-gcc -E - >/dev/null 2>&1"
    all_compiles musl-gcc $strict -std=c99 -isystem "$out/headers"
    all_compiles musl-gcc $strict -std=c99 -isystem "$out/headers" "$after"
    all_compiles musl-gcc $strict -std=c99 -isystem "$out/headers" -D_XOPEN_SOURCE=500 "$after"
    all_compiles musl-gcc $strict -D_GNU_SOURCE -isystem "$out/headers" "$after"
fi

finish
