# Shared by the suites of this folder, which set `suite` before: where to build, how to count, the
# flags. Sourced with the suite's arguments, in the project's folder.
build=${1:-build}
out=$build/$suite
rm -rf "$out"
mkdir -p "$out"
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)) && echo "ok - $1"; }
not_ok() { failed=$((failed + 1)) && echo "not ok - $1"; }
skip() { skipped=$((skipped + 1)) && echo "skip - $1: $2"; }
check() { # NAME COMMAND...: the command succeeds and prints nothing
    name=$1
    shift
    if "$@" >"$out/log" 2>&1 && [ ! -s "$out/log" ]; then
        ok "$name"
    else
        head -n 20 "$out/log"
        echo "command: $*"
        not_ok "$name"
    fi
}
finish() {
    tail=
    [ $skipped = 0 ] || tail=", $skipped skipped"
    echo "$passed passed, $failed failed$tail"
    [ $failed = 0 ]
    exit
}
file() { # NAME LINE...
    name=$out/$1
    shift
    printf '%s\n' "$@" >"$name"
}

common='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef
    -Wvla -Werror -I.'
c="-std=c99 $common -Wstrict-prototypes -Wmissing-prototypes"
cpp="-std=c++11 -x c++ $common"
libs='-lprotobuf-nanopb -lbearssl -lpthread'
implement='#define DNSTAP_IMPLEMENTATION'
include='#include "dnstap.h"'
