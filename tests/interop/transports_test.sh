#!/bin/sh
# The examples that bring a transport of their own: a serial line (a pair of pseudo-terminals) and
# OpenSSL's TLS 1.3, with our tool at the other end.
# usage: tests/interop/transports_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
messages=9000 # a ring holds 10,000

built dnstap || exit 1
absent=$(missing socat openssl)

collect() {
    rm -f "$dir/sock" "$dir/got.fstrm"
    background "$build/dnstap" -u "$dir/sock" -w "$dir/got.fstrm"
    collector=$pid
    wait_for 10 [ -S "$dir/sock" ]
}

complete() { # IDENTITY: all messages are there, whole, by a stream that has ended in order
    kill $collector && wait $collector
    "$build/dnstap" -q -r "$dir/got.fstrm" >"$dir/lines" 2>"$dir/errors" || return 1
    [ "$(wc -l <"$dir/lines")" = $messages ] || {
        echo "$(wc -l <"$dir/lines") messages"
        return 1
    }
    [ "$(grep -a -o "$1" "$dir/got.fstrm" | wc -l)" = $messages ]
}

serial() {
    built transport_serial && collect || return 1
    background socat "pty,link=$dir/line,raw,echo=0" "unix-connect:$dir/sock"
    wait_for 10 [ -e "$dir/line" ] || return 1
    timeout 60 "$build/transport_serial" "$dir/line" $messages && complete meter-7
}

unplugged() {
    built transport_serial || return 1
    background "$build/transport_serial" "$dir/nowhere" 1 2>"$dir/said"
    wait_for 10 grep -q 'No such file or directory' "$dir/said"
}

listen_tls() { # OPTIONS: behind it is the collector
    new_port
    here=$port,bind=127.0.0.1,reuseaddr
    background socat "openssl-listen:$here,verify=0,cert=$dir/pair$1" "unix-connect:$dir/sock"
    wait_for 10 listens "$port"
}

certificates() {
    (
        cd "$dir" && . "$OLDPWD/tests/certificates.sh" && ca good && ca other && key server P-256 &&
            sign server good /CN=server subjectAltName=DNS:localhost &&
            cat server.key server.pem >pair
    )
}

modern() {
    built transport_openssl && collect && listen_tls ,openssl-min-proto-version=TLS1.3 || return 1
    timeout 60 "$build/transport_openssl" localhost "$port" "$dir/good.pem" $messages &&
        complete dnstap.h-
}

refuses() { # CA WHAT-IS-SAID [OPTIONS]
    built transport_openssl && collect && listen_tls "${3-}" || return 1
    background "$build/transport_openssl" localhost "$port" "$dir/$1.pem" 1 2>"$dir/said"
    wait_for 10 grep -q "$2" "$dir/said" || { cat "$dir/said" && return 1; }
    kill $collector && wait $collector
    ! "$build/dnstap" -q -r "$dir/got.fstrm" 2>/dev/null | grep .
}

if [ "$absent" ]; then
    skip 'taps over transports of their own' "$absent"
    finish
fi
certificates
check 'a serial line carries all messages' serial
check 'a line that is not there is named in the log' unplugged
check 'TLS 1.3 by OpenSSL carries all messages' modern
check 'a certificate by another CA gets nothing' refuses other 'unable to get local issuer'
check 'a server without TLS 1.3 gets nothing' refuses good version ,openssl-max-proto-version=TLS1.2
finish
