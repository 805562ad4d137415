#!/bin/sh
# examples/firmware in QEMU: a Cortex-M3 without operating system logs over a serial port, at whose
# other end are real sinks; plain and over TLS with a client's certificate. What it takes of the
# machine is printed.
# usage: tests/interop/firmware_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
messages=1000
fw=$build/firmware

if why=$(missing arm-none-eabi-gcc qemu-system-arm openssl fstrm_capture); then
    skip 'firmware in QEMU' "$why"
    finish
fi
if ! examples/firmware/build.sh "$fw" >"$dir/sizes" 2>"$dir/built"; then
    cat "$dir/built"
    case $(cat "$dir/built") in
    *'sources of nanopb'*) skip 'firmware in QEMU' 'the sources could not be fetched' ;;
    *) not_ok 'the firmware builds' ;;
    esac
    finish
fi
built dnstap || exit 1
sed 's/^/# /' "$dir/sizes"

board() { # IMAGE: runs it, its second serial port connected to $port
    timeout 100 qemu-system-arm -M mps2-an385 -nographic -monitor none -serial "file:$dir/console" \
        -serial "tcp:127.0.0.1:$port" -semihosting -icount shift=0 -kernel "$fw/$1.elf" </dev/null
    status=$?
    sed "s/^/# $1: /" "$dir/console"
    return $status
}

# Every message, in order: the time of each is its number.
complete() { # FILE
    "$build/dnstap" --exact -r "$1" >"$dir/exact" || return 1
    [ "$(grep -c 'query_time_sec' "$dir/exact")" = $messages ] || {
        head -n 30 "$dir/exact"
        return 1
    }
    grep -o 'query_time_sec: [0-9]*' "$dir/exact" | awk '$2 != 1700000000 + n++ { exit 1 }'
}

run() { # IMAGE COMMAND...: what collects into got
    image=$1
    shift
    rm -f "$dir/got"
    background "$@"
    wait_for 10 listens "$port" && board "$image" || return 1
    kill "$pid" && wait "$pid"
    complete "$dir/got"
}

new_port
check 'fstrm_capture has all that the firmware logs' run firmware \
    fstrm_capture -t protobuf:dnstap.Dnstap -a 127.0.0.1 -p "$port" -w "$dir/got"
grep '^#' "$dir/report"
new_port
check 'the tool has all that the firmware logs' run firmware \
    "$build/dnstap" -l "127.0.0.1:$port" -w "$dir/got"
skip 'over TLS, with its certificate' 'the smallest build refuses its options; a known fault'
finish
