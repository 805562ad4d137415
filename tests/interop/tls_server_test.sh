#!/bin/sh
# Our server against openssl s_client: whom it lets in, and what it says of those it does not.
# usage: tls_server_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"

ca ca
ca wrongca
ca middle ca
leaf server
accept() { # accept CASE "SERVER OPTIONS" OPTION...
    title=$1 options=$2
    shift 2
    peer_server "$title" OK BR_ERR_OK '' "$options" "$@"
}
refuse() { # refuse CASE NAME TEXT "SERVER OPTIONS" OPTION...
    title=$1 result=$2 text=$3 options=$4
    shift 4
    peer_server "$title" FAIL "$result" "$text" "$options" "$@"
}
config() { # config CASE NAME TEXT OPTION...: refused before it listens
    title=$1 result=$2 text=$3
    shift 3
    timeout 10 "$TLS_PEER" server --listen $((next_port += 1)) "$@" >server.log 2>&1
    expect "$title" server.log CONFIG "$result" "$text"
}
us='--cert server.pem --key server.key'
strictly='-CAfile ca.pem -verify_return_error -verify_hostname server.test'

# -- our certificate --
for kind in P-256 P-384 P-521 rsa:2048 rsa:3072 rsa:4096; do
    key kinds "$kind"
    sign kinds ca /CN=server.test subjectAltName=DNS:server.test
    # shellcheck disable=SC2086
    accept "our key of $kind" '--cert kinds.pem --key kinds.key' $strictly
done
key chained P-256
sign chained middle /CN=server.test subjectAltName=DNS:server.test
cat chained.pem middle.pem >chain.pem
accept 'our chain with its intermediate' '--cert chain.pem --key chained.key' $strictly
refuse 'our chain without its intermediate' PEER_ALERT_48 'whole chain' \
    '--cert chained.pem --key chained.key' $strictly
refuse 'a client that wants another name' PEER_ALERT_42 '' "$us" -CAfile ca.pem \
    -verify_return_error -verify_hostname other.test
config 'no certificate' 'LOCAL_[0-9]*' 'options.cert_file'
config 'no key' 'LOCAL_[0-9]*' 'options.key_file' --cert server.pem
config 'the key of another certificate' LOCAL_2 'not that of' --cert server.pem --key kinds.key

# -- versions, suites, curves --
for version in tls1 tls1_1; do
    refuse "a client that speaks -$version only" SENT_ALERT_70 'TLS 1.2' "$us" -$version \
        -cipher DEFAULT@SECLEVEL=0
done
refuse 'a client that speaks -tls1_3 only' 'SENT_ALERT_[0-9]*' '' "$us" -tls1_3
key rsa rsa:2048
sign rsa ca /CN=server.test subjectAltName=DNS:server.test
for suite in ECDHE-ECDSA-AES128-GCM-SHA256:C02B:server ECDHE-ECDSA-AES256-GCM-SHA384:C02C:server \
    ECDHE-ECDSA-CHACHA20-POLY1305:CCA9:server ECDHE-RSA-AES128-GCM-SHA256:C02F:rsa \
    ECDHE-RSA-AES256-GCM-SHA384:C030:rsa ECDHE-RSA-CHACHA20-POLY1305:CCA8:rsa; do
    name=${suite##*:} number=${suite#*:}
    peer_server "suite ${suite%%:*}" OK BR_ERR_OK "suite=${number%:*}" \
        "--cert $name.pem --key $name.key" -tls1_2 -cipher "${suite%%:*}"
done
refuse 'a client without forward secrecy' SENT_ALERT_40 'ECDHE' "$us" -tls1_2 \
    -cipher AES128-GCM-SHA256
refuse 'a client without our kind of key' SENT_ALERT_40 '' "$us" -tls1_2 \
    -cipher ECDHE-RSA-AES128-GCM-SHA256
for curve in X25519 P-256 P-384 P-521; do
    accept "key exchange with $curve" '--cert rsa.pem --key rsa.key' -tls1_2 -curves $curve
done
for io in mono bidi 1434 17306 837m 16709m; do accept "buffers $io" "$us --io $io"; done
accept 'a client that asks for small fragments' "$us" -maxfraglen 512

# -- client certificates --
leaf client extendedKeyUsage=clientAuth
for kind in P-384 P-521 rsa:2048 rsa:3072; do
    key client2 "$kind"
    sign client2 ca /CN=client
    accept "a client certificate, $kind" "$us --ca ca.pem" -cert client2.pem -key client2.key
done
accept 'a client certificate, P-256' "$us --ca ca.pem" -cert client.pem -key client.key
key clientmiddle P-256
sign clientmiddle middle /CN=client
accept 'a client certificate with its chain' "$us --ca ca.pem" -cert clientmiddle.pem \
    -key clientmiddle.key -cert_chain middle.pem
accept 'an intermediate as anchor' "$us --ca middle.pem" -cert clientmiddle.pem \
    -key clientmiddle.key
refuse 'a client certificate without its chain' BR_ERR_X509_NOT_TRUSTED "client's certificate" \
    "$us --ca ca.pem" -cert clientmiddle.pem -key clientmiddle.key
peer_saw 'and the client learns why: unknown ca' 'alert number 48'
refuse 'no client certificate' BR_ERR_NO_CLIENT_AUTH 'options.ca_file' "$us --ca ca.pem"
peer_saw 'and the client learns why: handshake failure' 'alert number 40'
key stranger P-256
sign stranger wrongca /CN=client
refuse 'a client certificate of a wrong CA' BR_ERR_X509_NOT_TRUSTED 'ca.pem' "$us --ca ca.pem" \
    -cert stranger.pem -key stranger.key
FAKE_TIME=$((now + 200 * day)) refuse 'an expired client certificate' BR_ERR_X509_EXPIRED \
    'clock says' "$us --ca ca.pem" -cert client.pem -key client.key
peer_saw 'and the client learns why: certificate expired' 'alert number 45'
FAKE_TIME=$((now - 200 * day)) refuse 'a client certificate not yet valid' BR_ERR_X509_EXPIRED \
    'clock says' "$us --ca ca.pem" -cert client.pem -key client.key
FAKE_TIME=0 refuse 'client certificates without a clock' BR_ERR_X509_TIME_UNKNOWN \
    'options.unix_time' "$us --ca ca.pem" -cert client.pem -key client.key
FAKE_TIME=0 accept 'no clock is needed without client certificates' "$us"
key self P-256
sign self self /CN=client basicConstraints=CA:FALSE
accept 'a self-signed client certificate, as CA file' "$us --ca self.pem" -cert self.pem \
    -key self.key
refuse 'another self-signed one' BR_ERR_X509_NOT_TRUSTED '' "$us --ca ca.pem" -cert self.pem \
    -key self.key
leaf eku extendedKeyUsage=critical,clientAuth
refuse 'a critical extended key usage' BR_ERR_X509_CRITICAL_EXTENSION 'critical' "$us --ca ca.pem" \
    -cert eku.pem -key eku.key
key huge rsa:8192:5
sign huge ca /CN=client
refuse 'an RSA-8192 client certificate' BR_ERR_X509_LIMIT_EXCEEDED 'RSA-4096' "$us --ca ca.pem" \
    -cert huge.pem -key huge.key
key small rsa:1024
sign small ca /CN=client
refuse 'an RSA-1024 client certificate' BR_ERR_X509_WEAK_PUBLIC_KEY '2048' "$us --ca ca.pem" \
    -cert small.pem -key small.key -cipher DEFAULT@SECLEVEL=0
accept 'skipverify asks for none' "$us --ca ca.pem --skipverify"
accept 'skipverify needs no CA file' "$us --ca nosuch.pem --skipverify"
config 'an empty CA file' LOCAL_4 'no certificate' $us --ca server.key
config 'a missing CA file' 'LOCAL_[0-9]*' 'nosuch.pem' $us --ca nosuch.pem
cat wrongca.pem ca.pem >several.pem
accept 'several CAs in one file' "$us --ca several.pem" -cert client.pem -key client.key
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -f $bundle ]; then
    cat $bundle ca.pem >bundle.pem
    accept 'more CAs than a record has room for' "$us --ca bundle.pem" -cert client.pem \
        -key client.key
else
    skip 'more CAs than a record has room for' "there is no $bundle"
fi

# -- what is no handshake --
start_peer $us
printf 'GET / HTTP/1.0\r\n\r\n' | timeout 5 socat - "tcp:127.0.0.1:$port" >other.log 2>&1
wait "$peer"
expect 'plain HTTP is told from TLS' server.log FAIL BR_ERR_UNSUPPORTED_VERSION 'TLS port'
start_peer $us
: | timeout 5 socat - "tcp:127.0.0.1:$port" >other.log 2>&1
wait "$peer"
expect 'a client that only knocks' server.log FAIL LOCAL_1 'in the TLS handshake'
start_peer $us
(sleep 30 & echo $! >sleeper && wait) |
    openssl s_client -connect "127.0.0.1:$port" -sess_out session >other.log 2>other.err &
wait_for 10 grep -q 'Session-ID: [0-9A-F]' other.log
kill "$(cat sleeper)"
wait "$peer"
start_peer $us
echo | timeout 5 openssl s_client -connect "127.0.0.1:$port" -sess_in session >other.log 2>&1
wait "$peer"
peer_saw 'sessions are never resumed' '^New, TLSv1.2'
finish
