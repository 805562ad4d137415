#!/bin/sh
# Our tap over TLS to a real collector: socat, with OpenSSL, ends the TLS before fstrm_capture.
# What was logged arrives whole; a collector that is not verified gets nothing.
# usage: tls_tap_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"
PATH=$PATH:/usr/sbin:/sbin

program=$build/tap_source
[ -x "$program" ] || (cd "$OLDPWD" && ${MAKE:-make} -s build/tap_source) || exit 1
for needed in fstrm_capture socat; do
    command -v $needed >/dev/null || {
        skip 'our tap over TLS' "$needed is not installed"
        exit 0
    }
done
ca ca
ca wrongca
leaf server subjectAltName=IP:127.0.0.1
export SSL_CERT_FILE=$dir/ca.pem

# collector [SOCAT-OPTIONS]: TLS on $port, what comes is in captured
collector() {
    stop_all
    port=$((port + 1))
    : >socat.log
    rm -f captured sock
    fstrm_capture -t protobuf:dnstap.Dnstap -u sock -w captured >capture.log 2>&1 &
    capture=$!
    running="$running $capture"
    until_ok test -S sock
    socat -d -d "openssl-listen:$port,bind=127.0.0.1,reuseaddr,fork,cert=server.pem,key=server.key,\
verify=0$1" unix-connect:sock 2>socat.log &
    running="$running $!"
    until_ok listening 'listening on' socat.log $!
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

port=$((port + 1))
timeout 100 "$program" "tls://127.0.0.1:$port" 20000 expected >tap.log 2>&1 &
tap=$!
until_ok grep -q 'refused' tap.log
port=$((port - 1))
collector ''
wait $tap
arrived 'a collector that comes later'

# A CA file that is exchanged while the tap runs: the next attempt reads it.
cp wrongca.pem changing.pem
collector ''
SSL_CERT_FILE=$dir/changing.pem timeout 100 "$program" "tls://127.0.0.1:$port" 20000 expected \
    >tap.log 2>&1 &
tap=$!
until_ok grep -q 'certificate is of no CA in .*changing.pem' tap.log
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
    port=$((port + 1))
    : >proxy.log
    rm -f wire.bin
    socat -d -d -r wire.bin "tcp-listen:$port,bind=127.0.0.1,reuseaddr,fork" \
        "tcp:127.0.0.1:$behind" 2>proxy.log &
    running="$running $!"
    until_ok listening 'listening on' proxy.log $!
    timeout 100 "$program" "tls://127.0.0.1:$port" 1000 >tap.log 2>&1 &
    tap=$!
    running="$running $tap"
    if until_ok grep -q "^tls://127.0.0.1:$port: .*$2" tap.log; then ok "$1 is refused"; else
        cat tap.log
        not_ok "$1 is refused"
    fi
    until_ok sh -c '[ "$(wc -c <wire.bin)" -gt 300 ]' # several attempts
    kill $tap
    wait $tap
    sent=$(records wire.bin)
    [ "$sent" = '21 22 ' ] && ok "$1 gets no byte of data" || not_ok "$1 gets data: $sent"
}
SSL_CERT_FILE=$dir/wrongca.pem refused 'a collector of another CA' 'of no CA in'
leaf server subjectAltName=IP:127.0.0.2,DNS:localhost
refused 'a collector at another address' 'not for the address "127.0.0.1"'
finish
