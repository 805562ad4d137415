#!/bin/sh
# Our tap over TLS to a real collector: socat, with OpenSSL, ends the TLS before fstrm_capture.
# What was logged arrives whole; a collector that is not verified gets nothing.
# usage: tls_tap_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"
PATH=$PATH:/usr/sbin:/sbin

(cd "$top" && built tap_source) || exit 1
program=$build/tap_source
if why=$(missing fstrm_capture socat); then
    skip 'our tap over TLS' "$why"
    finish
fi
ca ca
ca wrongca
leaf server subjectAltName=IP:127.0.0.1
export SSL_CERT_FILE=$dir/ca.pem

# collector [SOCAT-OPTIONS]: TLS on $port, what comes is in captured
collector() {
    stop_all KILL
    new_port
    : >socat.log
    rm -f captured sock
    background fstrm_capture -t protobuf:dnstap.Dnstap -u sock -w captured >capture.log 2>&1
    capture=$pid
    wait_for 10 test -S sock
    certificate=cert=server.pem,key=server.key,verify=0
    background socat -d -d \
        "openssl-listen:$port,bind=127.0.0.1,reuseaddr,fork,$certificate$1" \
        unix-connect:sock 2>socat.log
    wait_for 10 listening 'listening on' socat.log "$pid"
}

# arrived CASE: what tap_source logged is what fstrm_capture wrote
arrived() {
    kill "$capture"
    wait "$capture"
    if cmp expected captured; then ok "$1"; else
        tail -n 5 tap.log socat.log
        not_ok "$1"
    fi
}

collector ''
timeout 100 "$program" "tls://127.0.0.1:$port" 100000 expected >tap.log 2>&1
arrived 'what was logged arrives whole'
for suite in ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305; do
    collector ",cipher=$suite,openssl-max-proto-version=TLS1.2"
    timeout 100 "$program" "tls://127.0.0.1:$port" 20000 expected >tap.log 2>&1
    arrived "with $suite"
done

new_port
timeout 100 "$program" "tls://127.0.0.1:$port" 20000 expected >tap.log 2>&1 &
tap=$!
wait_for 10 grep -q 'refused' tap.log
next_port=$port # where the tap looks for it
collector ''
wait $tap
arrived 'a collector that comes later'

# A CA file that is exchanged while the tap runs: the next attempt reads it.
cp wrongca.pem changing.pem
collector ''
SSL_CERT_FILE=$dir/changing.pem timeout 100 "$program" "tls://127.0.0.1:$port" 20000 expected \
    >tap.log 2>&1 &
tap=$!
wait_for 10 grep -q 'certificate is of no CA in .*changing.pem' tap.log
cp ca.pem changing.pem
wait $tap
arrived 'a CA file that is exchanged meanwhile'

# The wire, when the collector is not the one that was meant.
records() { # the types of the records in a file, each once
    od -An -v -tu1 -w1 "$1" | awk '
        skip { skip--; next }
        { head[n++] = $1 }
        n == 5 { print head[0]; skip = head[3] * 256 + head[4]; n = 0 }' | sort -u | tr '\n' ' '
}
refused() { # refused CASE TEXT: nothing but handshake and alert records went out
    collector ''
    behind=$port
    new_port
    : >proxy.log
    rm -f wire.bin
    background socat -d -d -r wire.bin "tcp-listen:$port,bind=127.0.0.1,reuseaddr,fork" \
        "tcp:127.0.0.1:$behind" 2>proxy.log
    wait_for 10 listening 'listening on' proxy.log "$pid"
    background timeout 100 "$program" "tls://127.0.0.1:$port" 1000 >tap.log 2>&1
    tap=$pid
    if wait_for 10 grep -q "^tls://127.0.0.1:$port: .*$2" tap.log; then ok "$1 is refused"; else
        cat tap.log
        not_ok "$1 is refused"
    fi
    wait_for 10 sh -c '[ "$(wc -c <wire.bin)" -gt 300 ]' # several attempts
    kill $tap
    wait $tap
    sent=$(records wire.bin)
    [ "$sent" = '21 22 ' ] && ok "$1 gets no byte of data" || not_ok "$1 gets data: $sent"
}
SSL_CERT_FILE=$dir/wrongca.pem refused 'a collector of another CA' 'of no CA in'
leaf server subjectAltName=IP:127.0.0.2,DNS:localhost
refused 'a collector at another address' 'not for the address "127.0.0.1"'
finish
