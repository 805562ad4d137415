#!/bin/sh
# Without Debian's libraries: dnstap.h beside the sources of nanopb and BearSSL, copied and compiled
# as the README says, by gcc with glibc and by musl-gcc, there linked statically. The programs run.
# usage: tests/compile/vendor_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh

for package in nanopb bearssl; do
    source=$(tests/get-source $package 2>"$out/source.log" | tail -n 1)
    if [ -z "$source" ]; then
        tail -n 3 "$out/source.log"
        skip 'vendored libraries' "the source of $package could not be fetched"
        finish
    fi
    eval "$package=\$source"
done
file whole.c "$implement" '#include "tests/compile/use.c"'
file tls.c "$implement" "$include" 'int main(void)' '{' '    static dnstap_options options;' \
    '    dnstap_error error;' '    options.endpoint = "tls://127.0.0.1:1";' \
    '    options.skipverify = true;' '    dnstap_tap *tap = dnstap_open(&options, &error);' \
    '    if (!tap) return 1;' '    dnstap_start(tap);' '    dnstap_close(tap, 10);' \
    '    return 0;' '}'

# ---- what is copied ----
third=$out/third_party
mkdir -p "$third/nanopb" "$third/bearssl"
cp "$nanopb"/pb*.[ch] "$third/nanopb"
cp -r "$bearssl/inc" "$bearssl/src" "$third/bearssl"

# What the README says: all of nanopb's pb*.c and of BearSSL's src, into an archive each.
vendored() { # COMPILER [FLAG]: how it links
    objects=$out/$1.d
    mkdir -p "$objects/nanopb" "$objects/bearssl"
    check "nanopb with $1" sh -c "cd $objects/nanopb && $1 -Os -c $third/nanopb/pb*.c &&
        ar rcs ../libnanopb.a *.o"
    check "BearSSL with $1" sh -c "cd $objects/bearssl && find $third/bearssl/src -name '*.c' |
        xargs -n 40 -P 2 $1 -Os -I$third/bearssl/inc -I$third/bearssl/src -c &&
        ar rcs ../libbearssl.a *.o"
    check "a program with TLS and $1" $1 $c -Os ${2-} -isystem "$third/nanopb" \
        -isystem "$third/bearssl/inc" "$out/tls.c" -o "$out/tls" \
        -L"$objects" -lnanopb -lbearssl -lpthread
    check 'it runs' "$out/tls"
    check "a program without TLS and $1" $1 $c -Os ${2-} -DDNSTAP_NO_TLS \
        -isystem "$third/nanopb" "$out/whole.c" -o "$out/whole" -L"$objects" -lnanopb -lpthread
    check 'what was logged comes out' "$out/whole"
}
vendored gcc
if why=$(missing musl-gcc); then
    skip 'musl' "$why"
else
    vendored musl-gcc -static
fi
finish
