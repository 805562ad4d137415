# Shared by the suites of this folder: where to build, the flags. Sourced after the harness.
chained=yes silent=yes
out=$build/$(basename "$0" _test.sh)
rm -rf "$out"
mkdir -p "$out"

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
