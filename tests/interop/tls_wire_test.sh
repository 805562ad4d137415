#!/bin/sh
# TLS on bad roads: bytes one by one, small buffers, peers that stop, vanish or never answer, and
# what a refused peer gets to see.
# usage: tls_wire_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"

ca ca
ca wrongca
leaf server
leaf client extendedKeyUsage=clientAuth
: >other.err
named='--name server.test --ca ca.pem'
us='--cert server.pem --key server.key'
theirs='-cert server.pem -key server.key'

# proxy SOCAT-OPTION...: from a new $port to the old one, its process in $proxy
proxy() {
    behind=$port
    rm -f wire.bin
    new_port
    : >proxy.log
    background socat -d -d "$@" "tcp-listen:$port,bind=127.0.0.1,reuseaddr,nodelay" \
        "tcp:127.0.0.1:$behind,nodelay" 2>proxy.log
    proxy=$pid
    wait_for 10 listening 'listening on' proxy.log "$proxy"
}

# peers CASE "CLIENT OPTIONS" "SERVER OPTIONS": tls_peer against itself
peers() {
    both=$1
    # shellcheck disable=SC2086
    start_peer $us $3
    [ -z "${through:-}" ] || proxy $through
    # shellcheck disable=SC2086
    peer_client "$both: client" OK BR_ERR_OK closed=clean $named $2
    wait "$peer"
    expect "$both: server" server.log OK BR_ERR_OK closed=clean
}

# -- slow roads, small buffers --
start_server $theirs
proxy -b1
peer_client 'one byte at a time, against openssl' OK BR_ERR_OK closed=clean $named
through=-b1 peers 'one byte at a time' '--bytes 5000 --io bidi' ''
through=-b1 peers 'one byte at a time, client certificate' '--cert client.pem --key client.key' \
    '--ca ca.pem'
peers '100 MB, full buffers' '--bytes 100000000 --io bidi' ''
peers '100 MB through the smallest buffers' '--bytes 100000000 --io 1434' '--io 1434'
start_server_file() { # a server that keeps what it receives in received.bin, its process in $server
    stop_all KILL
    new_port
    : >other.log
    [ -p held ] || mkfifo held # its input must not end, or it would end too
    # shellcheck disable=SC2086
    openssl s_server -accept "127.0.0.1:$port" -naccept 1 -quiet $theirs <>held >received.bin \
        2>other.log &
    server=$!
    pids="$pids $server"
    wait_for 10 listens "$port"
}

# -- closing --
sent() { # the first $1 bytes of what the client sends
    yes abcdefghijklmnopqrstuvwxyz | tr -d '\n' | head -c "$1"
}
start_server_file
proxy -b64
peer_client 'close with data on its way' OK BR_ERR_OK closed= $named --bytes 100000000 --noflush
wait_for 10 test -s received.bin
stop_all
size=$(wc -c <received.bin)
sent "$size" | cmp - received.bin && [ "$size" -ge 16384 ] && [ $((size % 16384)) = 0 ] &&
    ok "what was sealed before the close arrives ($size bytes)" ||
    not_ok "what was sealed before the close arrives ($size bytes)"

start_server_file
"$TLS_PEER" client --connect "127.0.0.1:$port" $named >client.log 2>&1 &
peer=$!
wait_for 10 sh -c '[ "$(wc -c <received.bin)" = 2000 ]'
kill -9 "$server"
wait $peer
expect 'an end without close_notify is told' client.log FAIL LOCAL_1 closed=eof

# -- peers that stop --
start_server_file
"$TLS_PEER" client --connect "127.0.0.1:$port" $named --bytes 1000000000 --timeout 1000 \
    >client.log 2>&1 &
peer=$!
wait_for 10 sh -c '[ "$(wc -c <received.bin)" -ge 2000 ]'
kill -STOP "$server"
wait $peer
kill -CONT "$server"
expect 'a peer that stops reading' client.log FAIL LOCAL_20 deadline
stop_all KILL
new_port
: >proxy.log
background socat -d -d -u "tcp-listen:$port,bind=127.0.0.1,reuseaddr" /dev/null 2>proxy.log
wait_for 10 listening 'listening on' proxy.log "$pid"
peer_client 'a peer that never answers' FAIL LOCAL_20 'no answer to the TLS handshake' $named \
    --timeout 300

# -- what a refused peer gets to see: handshake (22) and alert (21) records, and no data (23) --
records() { # the types of the records in a file
    od -An -v -tu1 -w1 "$1" | awk '
        skip { skip--; next }
        { head[n++] = $1 }
        n == 5 { printf "%d ", head[0]; skip = head[3] * 256 + head[4]; n = 0 }
        END { print "" }'
}
start_server $theirs
proxy -r wire.bin
peer_client 'a peer of a wrong CA' FAIL BR_ERR_X509_NOT_TRUSTED '' --name server.test \
    --ca wrongca.pem
wait "$proxy"
[ "$(records wire.bin)" = '22 21 ' ] && ok 'gets a ClientHello and an alert, and nothing else' ||
    not_ok "gets a ClientHello and an alert, and nothing else: $(records wire.bin)"
start_server $theirs
proxy -r wire.bin
peer_client 'a peer of another name' FAIL BR_ERR_X509_BAD_SERVER_NAME '' --name other.test \
    --ca ca.pem
wait "$proxy"
[ "$(records wire.bin)" = '22 21 ' ] && ok 'gets no more either' || not_ok 'gets no more either'
start_server $theirs
proxy -r wire.bin
peer_client 'a peer that is accepted' OK BR_ERR_OK '' $named
wait "$proxy"
case $(records wire.bin) in
'22 22 20 22 23 '*) ok 'gets data after the handshake: the test can tell' ;;
*) not_ok "gets data after the handshake: the test can tell: $(records wire.bin)" ;;
esac
finish
