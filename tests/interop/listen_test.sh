#!/bin/sh
# Taps that listen, and who comes: the four listening examples of the specification through the
# forwarder's command line, with our tool and with libfstrm's reader as sinks at the same time;
# clients' certificates of all kinds; and what a listener of CoreDNS can't do.
# usage: tests/interop/listen_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"
chained=

(cd "$top" && built forwarder dnstap tap_source fstrm_reader) || exit 1
if command -v kdig >/dev/null; then
    ask() { kdig +time=6 +retry=0 "$@"; }
elif command -v dig >/dev/null; then
    ask() { dig +time=6 +tries=1 "$@"; }
else
    skip 'taps that listen' 'neither kdig nor dig is installed'
    finish
fi
echo '192.0.2.1 a.example.test' >hosts
unset SSL_CERT_FILE
ca ca
ca otherca
leaf server subjectAltName=DNS:server.test,IP:127.0.0.1
leaf client
leaf forclients extendedKeyUsage=clientAuth
leaf forservers extendedKeyUsage=serverAuth
key expired P-256
printf '[ca]\ndefault_ca = a\n[a]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes
default_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n' >ca.cnf
: >index
openssl req -new -key expired.key -subj /CN=expired -out expired.csr
openssl ca -config ca.cnf -batch -notext -cert ca.pem -keyfile ca.key -in expired.csr \
    -startdate 20200101000000Z -enddate 20210101000000Z -out expired.pem 2>ca.err || cat ca.err
key stray P-256
sign stray otherca /CN=stray

# ---- the forwarder, its sinks, and what they get ----

evidence='forwarder.log sink.log fstrm.log socat.log'
before_each() { rm -f ./*.log ./*.out ./*.sock got want; }
start_forwarder() { # OPTION...: its process is $forwarder, its port $dns
    : >forwarder.log
    background "$build/forwarder" --dns 127.0.0.1:0 --hosts hosts --full "$@" 2>forwarder.log
    forwarder=$pid
    wait_for 10 grep -q 'listening on' forwarder.log || return
    dns=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' forwarder.log)
}
stop_forwarder() { kill "$forwarder" && wait "$forwarder"; }
question() { ask @127.0.0.1 -p "$dns" a.example.test A | grep -q 192.0.2.1; }
said() { [ "$(grep -c -e "$2" forwarder.log)" = "$1" ]; } # COUNT TEXT
tool() { # OPTION...: a sink, a message a line in sink.out
    background "$build/dnstap" --exact "$@" >sink.out 2>sink.log
}
fstrm() { # PATH or PORT: another one, a message a frame in got
    background "$build/fstrm_reader" "$1" got 2>fstrm.log
    reader=$pid
}
frames() { "$build/dnstap" -r "$1" --exact | wc -l; }
connected() { wait_for 10 said "$1" ': connected$'; } # COUNT

# Both sinks get the same messages of so many questions, and STOP in the end.
both_get() { # QUESTIONS
    connected 2 || return
    for i in $(seq "$1"); do question || return; done
    stop_forwarder && wait "$reader" || return
    [ "$(wc -l <sink.out)" = $(($1 * 2)) ] && [ "$(frames got)" = $(($1 * 2)) ] &&
        ! grep -v 'query_message\|response_message' sink.out &&
        said 1 "logged $(($1 * 2)), sent $(($1 * 4)), dropped 0"
}
through_tls() { # OPTION...: libfstrm has no TLS; socat's goes before it, once
    background socat "unix-listen:fstrm.sock" \
        "openssl:127.0.0.1:$port,cafile=ca.pem,commonname=server.test$*" 2>socat.log
    wait_for 10 [ -S fstrm.sock ] && fstrm fstrm.sock
}

over_unix() {
    start_forwarder --listen "$dir/tap.sock" && tool -c "$dir/tap.sock" && fstrm tap.sock &&
        both_get 5 && [ ! -e tap.sock ]
}
over_tcp() {
    new_port
    start_forwarder --listen "tcp://127.0.0.1:$port" && tool -c "127.0.0.1:$port" &&
        fstrm "$port" && both_get 5
}
over_mtls() {
    new_port
    start_forwarder --listen "tls://127.0.0.1:$port" --cert server.pem --key server.key \
        --ca ca.pem || return
    tool -c "tls://127.0.0.1:$port" --tls-ca ca.pem --tls-cert client.pem --tls-key client.key
    through_tls ,cert=forclients.pem,key=forclients.key && both_get 5 &&
        said 2 ', server.test: connected$'
}
over_tls() {
    new_port
    start_forwarder --listen "tls://127.0.0.1:$port" --cert server.pem --key server.key \
        --skipverify || return
    tool -c "tls://127.0.0.1:$port" --tls-ca ca.pem && through_tls '' && both_get 5
}
check 'dnstap listen /tmp/dnstap.sock full' over_unix
check 'dnstap listen tcp://127.0.0.1:6000 full' over_tcp
if why=$(missing socat); then
    skip 'dnstap listen tls://127.0.0.1:6000 full' "$why"
else
    check 'dnstap listen tls://127.0.0.1:6000 full, with a CA' over_mtls
    check 'dnstap listen tls://127.0.0.1:6000 full, skipverify' over_tls
fi

# ---- clients' certificates ----

comes() { # CERTIFICATE or '': openssl's client, which says nothing
    # shellcheck disable=SC2086
    background openssl s_client -connect "127.0.0.1:$port" -quiet \
        ${1:+-cert $1.pem -key $1.key} >client.out 2>client.log
}
mutual() {
    new_port
    start_forwarder --listen "tls://127.0.0.1:$port" --cert server.pem --key server.key --ca ca.pem
}
ready() { grep -q -a 'protobuf:dnstap.Dnstap' client.out; }
let_in() { mutual && comes "$1" && wait_for 10 ready; }
refused() { # CERTIFICATE TEXT: it gets nothing, and a good one beside it all
    mutual && comes "$1" && wait_for 10 said 1 "sink 127.0.0.1:.*$2" && [ ! -s client.out ] &&
        tool -c "tls://127.0.0.1:$port" --tls-ca ca.pem --tls-cert client.pem \
            --tls-key client.key && connected 1 && question && wait_for 10 [ -s sink.out ]
}
for certificate in client forclients; do
    check "a certificate is let in: $certificate" let_in $certificate
done
check 'a certificate for servers only is refused' refused forservers 'is not for clients'
check 'a certificate of another CA is refused' refused stray 'certificate is of no CA in .*ca.pem'
check 'an expired certificate is refused' refused expired 'valid from'
check 'no certificate is refused' refused '' 'client showed no certificate'

# ---- what else ----

# 20,000 messages to libfstrm's reader, byte for byte.
arrives_at_fstrm() { # ENDPOINT PATH-OR-PORT
    background "$build/tap_source" --listen "$1" 20000 want 2>tap.log
    tap=$pid
    wait_for 10 [ -s want ] && wait_for 10 came "$2" && wait "$tap" && cmp want got
}
came() { "$build/fstrm_reader" "$1" got; }
check 'libfstrm reads over unix what was logged' arrives_at_fstrm "unix://$dir/tap.sock" tap.sock
new_port
check 'libfstrm reads over TCP what was logged' arrives_at_fstrm "tcp://127.0.0.1:$port" "$port"

# CoreDNS does not start with a socket that a killed one has left.
after_a_kill() {
    start_forwarder --listen "$dir/tap.sock" && kill -KILL "$forwarder" && wait "$forwarder"
    [ -S tap.sock ] && over_unix
}
check 'a socket that a killed one has left is replaced' after_a_kill

in_use() {
    start_forwarder --listen "$dir/tap.sock" && tool -c "$dir/tap.sock" && connected 1 || return
    "$build/forwarder" --dns 127.0.0.1:0 --listen "$dir/tap.sock" 2>second.log
    [ $? = 1 ] && grep -q 'another process listens there' second.log &&
        question && wait_for 10 [ -s sink.out ]
}
check 'a socket in use is an error, and its owner goes on' in_use

# The specification's last example, and a second listener: all in one poll loop.
several() {
    background "$build/dnstap" -u collector.sock --exact >collector.out 2>collector.log
    wait_for 10 [ -S collector.sock ] || return
    new_port
    start_forwarder --tap "$dir/collector.sock" --listen "tcp://127.0.0.1:$port" \
        --listen "$dir/tap.sock" --identity several && wait_for 10 [ -S tap.sock ] &&
        tool -c "127.0.0.1:$port" && fstrm tap.sock && connected 2 || return
    for i in 1 2 3 4 5; do question || return; done
    stop_forwarder && wait "$reader" && wait_for 10 [ "$(wc -l <collector.out)" = 10 ] &&
        cmp collector.out sink.out && [ "$(frames got)" = 10 ] &&
        said 3 'logged 10, sent 10, dropped 0'
}
check 'taps that connect and taps that listen, in one loop' several

# Silent clients keep nobody waiting; CoreDNS waits 4 s for each, over TLS for ever.
beside_silent_ones() {
    mutual || return
    for i in 1 2 3 4 5; do
        background socat -u "tcp:127.0.0.1:$port" - >/dev/null 2>&1
    done
    wait_for 3 question && tool -c "tls://127.0.0.1:$port" --tls-ca ca.pem \
        --tls-cert client.pem --tls-key client.key && wait_for 3 said 1 ': connected$'
}
missing socat >/dev/null || check 'a sink comes beside silent ones' beside_silent_ones

cert_alone() {
    ! "$build/forwarder" --dns 127.0.0.1:0 --listen tls://127.0.0.1:1 --cert server.pem \
        2>forwarder.log && said 1 'one is not enough'
}
check '--cert alone is refused' cert_alone

finish
