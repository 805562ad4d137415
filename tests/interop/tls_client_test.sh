#!/bin/sh
# Our client against openssl s_server: what it accepts, and what it says of what it refuses.
# usage: tls_client_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"

ca ca
ca wrongca
ca middle ca
: >other.err
key rsa4096 rsa:4096 & # takes a while
slow=$!
accept() { # accept CASE OPTION...
    title=$1
    shift
    peer_client "$title" OK BR_ERR_OK '' "$@"
}
refuse() { # refuse CASE NAME TEXT OPTION...
    title=$1 result=$2 text=$3
    shift 3
    peer_client "$title" FAIL "$result" "$text" "$@"
}
config() { # config CASE NAME TEXT OPTION...
    title=$1 result=$2 text=$3
    shift 3
    peer_client "$title" CONFIG "$result" "$text" "$@"
}
serve() { # serve NAME [OPTION...]: with NAME's certificate
    name=$1
    shift
    start_server -cert "$name.pem" -key "$name.key" "$@"
}
named='--name server.test --ca ca.pem'

# -- kinds of keys --
for kind in P-256 P-384 P-521 rsa:2048 rsa:3072; do
    key kinds "$kind"
    sign kinds ca /CN=server.test subjectAltName=DNS:server.test
    serve kinds
    accept "a leaf with a key of $kind" $named
done
for kind in rsa:2048 P-384; do
    key otherca "$kind"
    sign otherca otherca /CN=otherca basicConstraints=critical,CA:TRUE -sha384
    key leafof P-256
    sign leafof otherca /CN=server.test subjectAltName=DNS:server.test -sha512
    serve leafof
    accept "a CA with a key of $kind" --name server.test --ca otherca.pem
done
leaf good
key small rsa:1024
sign small ca /CN=server.test subjectAltName=DNS:server.test
serve small -cipher DEFAULT@SECLEVEL=0
refuse 'RSA-1024 is too weak' BR_ERR_X509_WEAK_PUBLIC_KEY '2048 bits' $named
key huge rsa:8192:5
sign huge ca /CN=server.test subjectAltName=DNS:server.test
serve huge
refuse 'RSA-8192 is beyond what is supported' BR_ERR_X509_LIMIT_EXCEEDED 'RSA-4096' $named
refuse 'RSA-8192 under skipverify is refused, not overflowed' BR_ERR_X509_LIMIT_EXCEEDED \
    'RSA-4096' --name server.test --skipverify
key edwards ed25519
sign edwards ca /CN=server.test subjectAltName=DNS:server.test
serve edwards
refuse 'Ed25519 is not supported' PEER_ALERT_40 'in common' $named
leaf sha1 subjectAltName=DNS:server.test -sha1
serve sha1 -cipher DEFAULT@SECLEVEL=0
refuse 'a signature with SHA-1 is not accepted' BR_ERR_X509_UNSUPPORTED 'SHA-256' $named
key rsaca rsa:2048
sign rsaca rsaca /CN=rsaca basicConstraints=critical,CA:TRUE
key pss P-256
sign pss rsaca /CN=server.test subjectAltName=DNS:server.test '-sigopt rsa_padding_mode:pss'
serve pss
refuse 'RSA-PSS is not supported' BR_ERR_X509_UNSUPPORTED 'RSA-PSS' --name server.test \
    --ca rsaca.pem

# -- chains and CAs --
key chained P-256
sign chained middle /CN=server.test subjectAltName=DNS:server.test
serve chained -cert_chain middle.pem
accept 'a chain with its intermediate' $named
serve chained
refuse 'a chain without its intermediate' BR_ERR_X509_NOT_TRUSTED 'whole chain' $named
peer_saw 'and the server learns why: unknown ca' 'alert number 48'
accept 'an intermediate as anchor' --name server.test --ca middle.pem
cat wrongca.pem middle.pem ca.pem >several.pem
serve good
accept 'several CAs in one file' --name server.test --ca several.pem
refuse 'a wrong CA' BR_ERR_X509_NOT_TRUSTED 'wrongca.pem' --name server.test --ca wrongca.pem
key ca2 P-256
sign ca2 ca2 /CN=ca basicConstraints=critical,CA:TRUE
refuse 'another CA of the same name' BR_ERR_X509_NOT_TRUSTED '' --name server.test --ca ca2.pem
key notca P-256
sign notca ca /CN=notca basicConstraints=critical,CA:FALSE
key byleaf P-256
sign byleaf notca /CN=server.test subjectAltName=DNS:server.test
serve byleaf -cert_chain notca.pem
refuse 'a chain through a certificate that is no CA' BR_ERR_X509_NOT_CA '' $named
key loop P-256
sign loop loop /CN=server.test subjectAltName=DNS:server.test basicConstraints=CA:FALSE
serve loop
refuse 'self-signed' BR_ERR_X509_NOT_TRUSTED 'ca.pem' $named
accept 'self-signed, and itself as CA file' --name server.test --ca loop.pem
refuse 'itself as CA file, under another name' BR_ERR_X509_BAD_SERVER_NAME '' --name other.test \
    --ca loop.pem
key swapped P-256
sign swapped middle /CN=server.test subjectAltName=DNS:server.test
serve swapped -cert_chain wrongca.pem
refuse 'a chain out of order' BR_ERR_X509_DN_MISMATCH 'out of order' $named

# -- times --
serve good
FAKE_TIME=$((now + 200 * day)) refuse 'an expired leaf' BR_ERR_X509_EXPIRED \
    'valid from 20..-..-.. to 20..-..-.., and the clock says' $named
peer_saw 'and the server learns why: certificate expired' 'alert number 45'
FAKE_TIME=$((now - 200 * day)) refuse 'not yet valid' BR_ERR_X509_EXPIRED 'clock says' $named
FAKE_TIME=0 refuse 'no clock' BR_ERR_X509_TIME_UNKNOWN 'options.unix_time' $named
FAKE_TIME=0 accept 'no clock is needed under skipverify' --name server.test --skipverify
key brief P-256
sign brief ca /CN=brief basicConstraints=critical,CA:TRUE '-days 5'
key underbrief P-256
sign underbrief brief /CN=server.test subjectAltName=DNS:server.test
serve underbrief -cert_chain brief.pem
FAKE_TIME=$((now + 10 * day)) refuse 'an expired intermediate' BR_ERR_X509_EXPIRED "a CA's" $named
FAKE_TIME=$((now + 10 * day)) refuse 'an expired CA' BR_ERR_X509_EXPIRED \
    "the CA's .* is valid from" --name server.test --ca brief.pem
FAKE_TIME=$((now + 4000 * day)) refuse 'decades later' BR_ERR_X509_EXPIRED '' $named

# -- names --
names() { # names SUBJECT [EXTENSION...]
    subject=$1
    shift
    key named P-256
    sign named ca "$subject" "$@"
    serve named
}
serve good
refuse 'a wrong name' BR_ERR_X509_BAD_SERVER_NAME \
    'certificate is for "server.test", not "other.test"' --name other.test --ca ca.pem
accept 'case does not matter' --name SERVER.Test --ca ca.pem
accept 'a trailing dot does not matter' --name server.test. --ca ca.pem
names /CN=server.test subjectAltName=DNS:else.test
refuse 'a SAN wins over the common name' BR_ERR_X509_BAD_SERVER_NAME 'else.test' $named
names /CN=server.test
refuse 'the common name alone is none' BR_ERR_X509_BAD_SERVER_NAME \
    'no subjectAltName, and its common name "server.test"' $named
names /CN=server.test subjectAltName=IP:127.0.0.1
refuse 'a common name beside an address' BR_ERR_X509_BAD_SERVER_NAME '"127.0.0.1", not' $named
names /CN=x 'subjectAltName=DNS:*.server.test'
accept 'a wildcard for one label' --name a.server.test --ca ca.pem
refuse 'a wildcard is not two labels' BR_ERR_X509_BAD_SERVER_NAME '' --name a.b.server.test \
    --ca ca.pem
refuse 'a wildcard is not none' BR_ERR_X509_BAD_SERVER_NAME '' $named
names /CN=x 'subjectAltName=DNS:s*.test'
refuse 'a partial wildcard' BR_ERR_X509_BAD_SERVER_NAME '' $named
names /CN=x 'subjectAltName=DNS:*'
refuse 'a bare wildcard' BR_ERR_X509_BAD_SERVER_NAME '' --name server --ca ca.pem
refuse 'a bare wildcard, two labels' BR_ERR_X509_BAD_SERVER_NAME '' $named
names /CN=x subjectAltName=DNS:a.test,DNS:b.test,DNS:server.test
accept 'the last of several names' $named
long=$(printf '%064d' 0 | tr 0 a)
refuse 'a name that fits nowhere' BR_ERR_X509_BAD_SERVER_NAME '' --name "$long.$long" --ca ca.pem

# -- addresses --
names /CN=x subjectAltName=IP:127.0.0.1,IP:2001:db8::1
accept 'an IPv4 address' --ip 127.0.0.1 --ca ca.pem
accept 'an IPv6 address' --ip 2001:db8::1 --ca ca.pem
accept 'an IPv6 address in other letters' --ip 2001:DB8:0::0:1 --ca ca.pem
accept 'an IPv4 address as IPv6' --ip ::ffff:127.0.0.1 --ca ca.pem
accept 'an IPv4 address in other digits' --ip 127.1 --ca ca.pem
accept 'an address with a dot behind it' --ip 127.0.0.1. --ca ca.pem
refuse 'another IPv4 address' BR_ERR_X509_BAD_SERVER_NAME \
    'for "127.0.0.1", not for the address "127.0.0.2"' --ip 127.0.0.2 --ca ca.pem
refuse 'another IPv6 address' BR_ERR_X509_BAD_SERVER_NAME '' --ip 2001:db8::2 --ca ca.pem
refuse 'a name, when addresses are certified' BR_ERR_X509_BAD_SERVER_NAME '' $named
names /CN=127.0.0.1
refuse 'an address only as common name' BR_ERR_X509_BAD_SERVER_NAME '' --ip 127.0.0.1 --ca ca.pem
names /CN=127.1
refuse 'one in other digits, only as common name' BR_ERR_X509_BAD_SERVER_NAME '' --name 127.1 \
    --ca ca.pem
names /CN=x subjectAltName=DNS:127.0.0.1
refuse 'an address only as dNSName' BR_ERR_X509_BAD_SERVER_NAME '' --ip 127.0.0.1 --ca ca.pem
many=subjectAltName=IP:127.0.0.1
for i in $(seq 300); do many=$many,DNS:name-number-$i.example; done
names /CN=x "$many"
refuse 'a leaf too large to look for an address in' LOCAL_6 'connect by name' --ip 127.0.0.1 \
    --ca ca.pem
accept 'the same by name' --name name-number-300.example --ca ca.pem

# -- extensions --
leaf eku subjectAltName=DNS:server.test extendedKeyUsage=critical,serverAuth
serve eku
refuse 'a critical extended key usage' BR_ERR_X509_CRITICAL_EXTENSION 'critical' $named
leaf eku subjectAltName=DNS:server.test extendedKeyUsage=serverAuth
serve eku
accept 'an extended key usage that is not critical' $named
key narrow P-256
sign narrow ca /CN=narrow basicConstraints=critical,CA:TRUE \
    'nameConstraints=critical,permitted;DNS:.test'
key undernarrow P-256
sign undernarrow narrow /CN=server.test subjectAltName=DNS:server.test
serve undernarrow -cert_chain narrow.pem
refuse 'critical name constraints' BR_ERR_X509_CRITICAL_EXTENSION 'critical' $named
key usage rsa:2048
sign usage ca /CN=server.test subjectAltName=DNS:server.test keyUsage=critical,keyEncipherment
serve usage
refuse 'a key usage that forbids to sign' BR_ERR_WRONG_KEY_USAGE 'key usage' $named
key nosign P-256
sign nosign ca /CN=nosign basicConstraints=critical,CA:TRUE keyUsage=critical,cRLSign
key undernosign P-256
sign undernosign nosign /CN=server.test subjectAltName=DNS:server.test
serve undernosign -cert_chain nosign.pem
refuse 'a CA whose key usage forbids to sign certificates' BR_ERR_X509_FORBIDDEN_KEY_USAGE '' $named

# -- skipverify takes every one of these --
skipping='--name server.test --skipverify'
for bad in small edwards sha1 pss chained loop byleaf swapped underbrief eku undernarrow usage \
    undernosign; do
    [ $bad != edwards ] || continue
    serve $bad -cipher DEFAULT@SECLEVEL=0
    FAKE_TIME=$((now + 4000 * day)) accept "skipverify takes $bad" $skipping
done
accept 'skipverify needs no name' --skipverify
serve good
config 'a missing CA file' 'LOCAL_[0-9]*' 'nosuch.pem: can.t open it: No such file' \
    --name server.test --ca nosuch.pem
config 'no name to verify' 'LOCAL_[0-9]*' 'options.server_name' --ca ca.pem

# -- versions and suites --
for version in tls1:40 tls1_1:40 tls1_3:70; do
    serve good -${version%:*} -cipher DEFAULT@SECLEVEL=0
    refuse "a peer that speaks -${version%:*} only" "PEER_ALERT_${version#*:}" 'TLS 1.2' $named
done
for suite in ECDHE-ECDSA-AES128-GCM-SHA256:C02B ECDHE-ECDSA-AES256-GCM-SHA384:C02C \
    ECDHE-ECDSA-CHACHA20-POLY1305:CCA9; do
    serve good -cipher "${suite%:*}"
    peer_client "suite ${suite%:*}" OK BR_ERR_OK "suite=${suite#*:}" $named
done
key rsa rsa:2048
sign rsa ca /CN=server.test subjectAltName=DNS:server.test
for suite in ECDHE-RSA-AES128-GCM-SHA256:C02F ECDHE-RSA-AES256-GCM-SHA384:C030 \
    ECDHE-RSA-CHACHA20-POLY1305:CCA8; do
    serve rsa -cipher "${suite%:*}"
    peer_client "suite ${suite%:*}" OK BR_ERR_OK "suite=${suite#*:}" $named
done
serve rsa -cipher AES128-GCM-SHA256
refuse 'a peer without forward secrecy' PEER_ALERT_40 ECDHE $named
for curve in X25519 P-256 P-384 P-521; do
    serve good -curves $curve
    accept "key exchange with $curve" $named
done

# -- buffers --
serve good
for io in mono bidi 1434 2500 4693 837m 4096m 16709m; do
    accept "buffers $io" $named --io $io
done
serve good -max_send_frag 2048
accept 'many bytes with the default buffers' $named --bytes 100000
serve good
refuse 'a record larger than the buffer for input' BR_ERR_TOO_LARGE 'options.tls_input' $named \
    --bytes 16000
accept 'the same with a buffer of full size' $named --bytes 16000 --io bidi
accept 'a peer that keeps to the fragment length asked for' $named --bytes 16000 --io 1434

# -- the client's certificate --
leaf client extendedKeyUsage=clientAuth
key clientrsa rsa:2048
sign clientrsa ca /CN=client
key clientmiddle P-256
sign clientmiddle middle /CN=client
cat clientmiddle.pem middle.pem >clientchain.pem
key stranger P-256
sign stranger wrongca /CN=client
serve good -Verify 3 -CAfile ca.pem -verify_return_error
accept 'a client certificate, P-256' $named --cert client.pem --key client.key
accept 'a client certificate, RSA' $named --cert clientrsa.pem --key clientrsa.key
accept 'a client certificate with its chain' $named --cert clientchain.pem --key clientmiddle.key
refuse 'a client certificate without its chain' PEER_ALERT_48 'whole chain' $named \
    --cert clientmiddle.pem --key clientmiddle.key
refuse 'no client certificate where one is required' PEER_ALERT_40 '' $named
refuse 'a client certificate of a wrong CA' PEER_ALERT_48 'does not know' $named \
    --cert stranger.pem --key stranger.key
for kind in P-384 P-521; do
    key kinds $kind
    sign kinds ca /CN=client
    accept "a client certificate, $kind" $named --cert kinds.pem --key kinds.key
done
wait $slow
sign rsa4096 ca /CN=server.test subjectAltName=DNS:server.test
accept 'a client certificate, RSA-4096' $named --cert rsa4096.pem --key rsa4096.key
serve rsa4096
accept 'a leaf with a key of rsa:4096' $named
serve good
accept 'a client certificate nobody asks for' $named --cert client.pem --key client.key

. "$top/tests/interop/tls_files.sh"
finish
