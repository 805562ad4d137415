#!/bin/sh
# The specification's examples of taps that connect, as they stand there but for paths and ports:
# the forwarder reads them, and the sinks must get what they say. And outgoing TLS, which is ours.
# usage: tests/interop/directive_test.sh [BUILD]
. "$(dirname "$0")/tls_lib.sh"

(cd "$top" && built forwarder dnstap) || exit 1
if command -v kdig >/dev/null; then
    ask() { kdig +time=6 +retry=0 "$@"; }
elif command -v dig >/dev/null; then
    ask() { dig +time=6 +tries=1 "$@"; }
else
    skip 'the specification live' 'neither kdig nor dig is installed'
    finish
fi
echo '192.0.2.1 a.example.test' >hosts

# ---- sinks: what came is in NAME.out, a message a line ----

unix_sink() { # NAME: listens on NAME.sock
    background "$build/dnstap" -u "$1.sock" --exact >"$1.out" 2>"$1.log"
    wait_for 10 grep -q 'listening' "$1.log"
}
tcp_sink() { # NAME: on $port
    new_port
    background "$build/dnstap" -l "127.0.0.1:$port" --exact >"$1.out" 2>"$1.log"
    wait_for 10 listening 'listening' "$1.log" "$pid"
    if ! kill -0 "$pid" 2>/dev/null; then tcp_sink "$1"; fi
}
tls_sink() { # NAME [VERIFY]: socat on $port, with server.pem, before a unix sink
    unix_sink "$1"
    new_port
    certificate=cert=server.pem,key=server.key,verify=${2:-0},cafile=ca.pem
    background socat -d -d \
        "openssl-listen:$port,bind=127.0.0.1,reuseaddr,fork,$certificate" \
        "unix-connect:$1.sock" 2>socat.log
    wait_for 10 listening 'listening on' socat.log "$pid"
}

# ---- one question, and its messages ----

# Answers a question with the taps of the text on standard input, and ends in order.
forward() {
    cat >config
    background "$build/forwarder" --dns 127.0.0.1:0 --hosts hosts --config config 2>forwarder.log
    forwarder=$pid
    wait_for 10 grep -q 'listening on' forwarder.log || return
    dns=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' forwarder.log)
    ask @127.0.0.1 -p "$dns" a.example.test A | grep -q 192.0.2.1 || return
    kill "$forwarder" && wait "$forwarder"
}
count() { [ "$(grep -c "$3" "$2.out")" = "$1" ]; }
# Two messages came to NAME, both with each PATTERN, and neither with what follows a "!".
came() { # NAME PATTERN...
    name=$1
    shift
    wait_for 10 count 2 "$name" '"type": "CLIENT_' || return
    for pattern; do
        case $pattern in
        !*) count 0 "$name" "${pattern#!}" || return ;;
        *) count 2 "$name" "$pattern" || return ;;
        esac
    done
}
hex() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n'; }
result() { # CASE STATUS
    if [ "$2" = 0 ]; then ok "$1"; else
        cat config forwarder.log ./*.out
        not_ok "$1"
    fi
    stop_all KILL
    rm -f ./*.sock ./*.out ./*.log
}
full='_message": "'
ours="\"identity\": \"$(hex "$(uname -n)")\", \"version\": \"$(hex dnstap.h-)"

unix_sink dnstap
forward <<END && came dnstap "!$full" "$ours"
dnstap $dir/dnstap.sock
END
result 'dnstap /tmp/dnstap.sock' $?

unix_sink dnstap
forward <<END && came dnstap "$full" "$ours"
dnstap $dir/dnstap.sock full 1024 2048
END
result 'dnstap /tmp/dnstap.sock full 1024 2048' $?

unix_sink dnstap
forward <<END && came dnstap "$full"
dnstap unix://$dir/dnstap.sock full
END
result 'dnstap unix:///tmp/dnstap.sock full' $?

tcp_sink tcp
forward <<END && came tcp "$full"
dnstap tcp://127.0.0.1:$port full
END
result 'dnstap tcp://127.0.0.1:6000 full' $?

tcp_sink tcp
forward <<END && came tcp "$full"
dnstap tcp://localhost:$port full
END
result 'dnstap tcp://example.com:6000 full' $?

unix_sink dnstap
names="\"identity\": \"$(hex my-dns-server1)\", \"version\": \"$(hex MyDNSServer-1.2.3)\""
forward <<END && came dnstap "!$full" "$names"
dnstap $dir/dnstap.sock {
  identity my-dns-server1
  version MyDNSServer-1.2.3
}
END
result 'identity my-dns-server1, version MyDNSServer-1.2.3' $?

unix_sink dnstap
tcp_sink tcp
forward <<END && came dnstap "$full" && came tcp "!$full"
dnstap $dir/dnstap.sock full
dnstap tcp://localhost:$port
END
result 'two taps' $?

unix_sink dnstap
forward <<END && came dnstap "$full" '"identity": "", "version": ""'
dnstap dnstap.sock full { # relative to the working directory
    identity "{\$NOBODY_SET_THIS}"
    version ""
}
END
result 'a relative path, and empty names' $?

if why=$(missing socat); then
    skip 'taps over TLS' "$why"
    finish
fi
ca ca
leaf server subjectAltName=DNS:server.test
leaf client
export SSL_CERT_FILE=/dev/null

tls_sink tls
forward <<END && came tls "$full"
dnstap tls://127.0.0.1:$port full {
  skipverify
}
END
result 'dnstap tls://127.0.0.1:6000 full, skipverify' $?

tls_sink tls 1
forward <<END && came tls "$full"
dnstap tls://127.0.0.1:$port full {
    tls_ca ca.pem
    tls_cert client.pem client.key
    tls_name server.test
    timeout 5s
    flush now
}
END
result 'tls_ca, tls_cert and tls_name: both sides are verified' $?

tls_sink tls
forward <<END
dnstap tls://127.0.0.1:$port full {
    tls_ca ca.pem
}
END
grep -q 'forwarder: .*broken, logged 2, sent 0' forwarder.log && count 0 tls CLIENT
result 'without tls_name the address is verified, and nothing leaves' $?

finish
