#!/bin/sh
# Builds the firmware for a Cortex-M3 from the sources of dnstap.h, nanopb and BearSSL:
#     OUT/firmware.elf          logs as it is
#     OUT/firmware_tls.elf      over TLS, with keys from OUT/keys (made if they are not there)
# and prints what of each image is dnstap.h with all it pulls in.
# usage: examples/firmware/build.sh OUT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
nanopb=${NANOPB_DIR:-$("$top/tests/get-source" nanopb 2>"$out/source.log" | tail -n 1)}
bearssl=${BEARSSL_DIR:-$("$top/tests/get-source" bearssl 2>"$out/source.log" | tail -n 1)}
[ -d "$nanopb" ] && [ -d "$bearssl" ] || {
    echo "build.sh: the sources of nanopb and BearSSL are needed: NANOPB_DIR, BEARSSL_DIR" >&2
    exit 1
}
machine='-mcpu=cortex-m3 -mthumb'
compile="arm-none-eabi-gcc -std=c99 $machine -Os -ffunction-sections -fdata-sections -Wall -Wextra
    -I$top -isystem $nanopb -isystem $bearssl/inc -DPB_NO_ERRMSG -DPB_BUFFER_ONLY"
plain='-DDNSTAP_MINIMAL'
tls='-DFIRMWARE_TLS -DDNSTAP_MINIMAL -DDNSTAP_WITH_TLS'

objects() { # FOLDER FLAG...: the firmware's own, and nanopb's
    mkdir -p "$out/$1"
    for source in "$here"/*.c "$nanopb"/pb*.c; do
        # shellcheck disable=SC2086 # flags
        $compile $2 -I"$out" -c "$source" -o "$out/$1/$(basename "$source" .c).o"
    done
}

image() { # NAME FOLDER [LIBRARY]
    # shellcheck disable=SC2086 # flags
    arm-none-eabi-gcc $machine -nostartfiles --specs=nano.specs -T "$here/mps2.ld" \
        -Wl,--gc-sections "$out/$2"/*.o ${3-} -o "$out/$1.elf"
    # What is not ours: the board's and the sensor's code, whole.
    arm-none-eabi-size "$out/$1.elf" "$out/$2/board.o" "$out/$2/firmware.o" | awk -v name="$1" '
        NR == 2 { code = $1 + $2 }
        NR > 2 { code -= $1 + $2 }
        END { print name ": code of dnstap.h and what it pulls in, bytes: " code }'
}

# BearSSL as an archive: the linker takes what TLS needs.
archive() {
    [ ! -f "$out/libbearssl.a" ] || return 0
    mkdir -p "$out/bearssl"
    (cd "$out/bearssl" && find "$bearssl/src" -name '*.c' |
        xargs -n 40 -P 2 arm-none-eabi-gcc $machine -Os -ffunction-sections -fdata-sections \
            -DBR_USE_URANDOM=0 -DBR_USE_UNIX_TIME=0 -I"$bearssl/inc" -I"$bearssl/src" -c)
    arm-none-eabi-ar rcs "$out/libbearssl.a" "$out"/bearssl/*.o
}

# keys.h, from OUT/keys: a CA, the collector's certificate and the meter's.
text() { # NAME FILE: as a C text
    printf 'static const char %s[] =\n' "$1"
    sed 's/.*/    "&\\n"/' "$2"
    echo '    ;'
}
keys() {
    mkdir -p "$out/keys"
    [ -f "$out/keys/meter.pem" ] || (
        cd "$out/keys"
        . "$top/tests/certificates.sh"
        ca ca
        for name in collector meter; do
            key $name P-256
            sign $name ca /CN=$name subjectAltName=DNS:$name
        done
    )
    {
        text ca "$out/keys/ca.pem"
        text cert "$out/keys/meter.pem"
        text key "$out/keys/meter.key"
        echo "#define BUILD_TIME $(date +%s)u"
        echo "#define SEED $(openssl rand 32 | od -An -v -tu1 | tr -s ' \n' ',' | sed 's/^,//')0"
    } >"$out/keys.h"
}

objects plain "$plain"
image firmware plain
archive
keys
objects tls "$tls"
image firmware_tls tls "$out/libbearssl.a"
