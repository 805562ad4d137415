#!/bin/sh
# The specification's examples, as they stand there but for paths and ports: the forwarder reads
# them, and the sinks must get what they say. And outgoing TLS, which is ours.
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

start_forwarder() { # LOG OPTION...: its process is $forwarder, its port $dns
    log=$1
    shift
    background "$build/forwarder" --dns 127.0.0.1:0 "$@" 2>"$log"
    forwarder=$pid
    wait_for 10 grep -q 'listening on' "$log" || return
    dns=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$log")
}
question() { ask @127.0.0.1 -p "$dns" a.example.test A | grep -q 192.0.2.1; }
# Answers a question with the taps of the text on standard input, and ends in order.
forward() {
    cat >config
    start_forwarder forwarder.log --config config --hosts hosts && question || return
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

# Whom the query went to is known behind the client's query only.
unix_sink dnstap
start_forwarder back.log --hosts hosts
back=$dns
cat >config <<END
dnstap $dir/dnstap.sock {
  extra "upstream: {/forward/upstream}"
}
END
start_forwarder forwarder.log --config config --upstream "127.0.0.1:$back" && question &&
    kill "$forwarder" && came dnstap && wait_for 10 count 4 dnstap '"extra": "' &&
    count 1 dnstap "\"extra\": \"$(hex 'upstream: -')\".*\"CLIENT_QUERY\"" &&
    count 3 dnstap "\"extra\": \"$(hex "upstream: 127.0.0.1:$back")\""
result 'extra "upstream: {/forward/upstream}"' $?

if why=$(missing socat); then
    skip 'taps over TLS, and taps that listen' "$why"
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

# ---- taps that listen: socat connects to them, and to a sink of ours ----

# What is logged before the sink has come is not for it.
asked_until_it_came() { # NAME
    question && [ -s "$1.out" ]
}
# listened NAME SOCAT-ADDRESS: the taps of config, and a sink that comes to one of them
listened() {
    start_forwarder forwarder.log --config config --hosts hosts || return
    unix_sink "$1"
    background socat "$2" "unix-connect:$1.sock" 2>"socat.$1.log"
    wait_for 10 asked_until_it_came "$1"
}
all() { # NAME PATTERN: all that came has it
    [ -s "$1.out" ] && ! grep -v -- "$2" "$1.out"
}

echo "dnstap listen $dir/tap.sock full" >config
listened sink unix-connect:tap.sock && all sink "$full"
result 'dnstap listen /tmp/dnstap.sock full' $?

new_port
echo "dnstap listen tcp://127.0.0.1:$port full" >config
listened sink "tcp:127.0.0.1:$port" && all sink "$full"
result 'dnstap listen tcp://127.0.0.1:6000 full' $?

new_port
cat >config <<END
dnstap listen tls://127.0.0.1:$port full {
  tls server.pem server.key ca.pem
}
END
verified=verify=1,cafile=ca.pem,commonname=server.test
listened sink "openssl:127.0.0.1:$port,$verified,cert=client.pem,key=client.key" && all sink "$full"
result 'dnstap listen tls://127.0.0.1:6000 full, tls CERT KEY CA' $?

start_forwarder forwarder.log --config config --hosts hosts
unix_sink sink
background socat "openssl:127.0.0.1:$port,$verified" unix-connect:sink.sock 2>socat.log
refused=$pid
asked_until_it_went() { question && ! kill -0 "$refused"; }
wait_for 10 asked_until_it_went && [ ! -s sink.out ]
result 'with a CA, a sink without certificate gets nothing' $?

new_port
cat >config <<END
dnstap listen tls://127.0.0.1:$port full {
  tls server.pem server.key
  skipverify
}
END
listened sink "openssl:127.0.0.1:$port,$verified" && all sink "$full"
result 'dnstap listen tls://127.0.0.1:6000 full, tls CERT KEY, skipverify' $?

tcp_sink tcp
to=$port
new_port
cat >config <<END
dnstap tcp://localhost:$to full
dnstap listen tcp://127.0.0.1:$port
END
listened sink "tcp:127.0.0.1:$port" && wait_for 10 all tcp "$full" && ! grep -q "$full" sink.out
result 'a tap that connects beside one that listens' $?

finish
