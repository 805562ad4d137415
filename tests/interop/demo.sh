#!/bin/sh
# `make demo`: the tool listens on a unix socket, a forwarder logs to it what it does for real
# questions, and the decoded messages and the tap's counters are printed. All of it on loopback and
# in a temporary folder; it ends by itself, and badly when a type of message is missing.
# usage: tests/interop/demo.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
build=${1:-build} # as it is shown

say() { printf '\n%s\n' "$*"; }
give_up() {
    echo "demo: $*" >&2
    cat "$dir"/*.err >&2 2>/dev/null
    exit 1
}
await() { wait_for 10 "$@" || give_up 'too slow'; }
run() { # NAME COMMAND...: in the background; its process is $pid
    name=$1
    shift
    echo "\$ $* &"
    background "$@" >"$dir/$name.out" 2>"$dir/$name.err"
}
port_of() { # NAME: where that forwarder listens: $port
    await grep 'listening on' "$dir/$1.err"
    port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$dir/$1.err")
}
ask() { # SERVER NAME TYPE [tcp]
    if command -v kdig >/dev/null; then
        set -- kdig "@$1" -p "$port" "$2" "$3" ${4:++tcp} +time=5 +retry=0
    elif command -v dig >/dev/null; then
        set -- dig "@$1" -p "$port" "$2" "$3" ${4:++tcp} +time=5 +tries=1
    elif command -v drill >/dev/null; then
        set -- drill -p "$port" ${4:+-t} "$2" "@$1" "$3"
    else
        give_up 'kdig, dig or drill is needed to ask questions'
    fi
    echo "\$ $*"
    "$@" >"$dir/answer.out" 2>&1 || give_up "no answer: $(cat "$dir/answer.out")"
    grep -E '^[^;[:space:]].*IN[[:space:]]|(status|rcode): *(REFUSED|SERVFAIL)' "$dir/answer.out" |
        sed 's/^/    /'
}
messages() { grep -c . "$dir/collector.out"; }
all_arrived() { [ "$(messages)" = "$1" ]; }

# Without IPv6 on this machine, IPv4 has to do.
any='[::]:0' six=::1
grep -q . /proc/net/if_inet6 2>/dev/null || any=127.0.0.1:0 six=127.0.0.1

cat >"$dir/hosts" <<'HOSTS'
192.0.2.80      www.example.test
2001:db8::80    www.example.test
192.0.2.25      mail.example.test
HOSTS

say '1. The collector: the tool listens on a unix socket and prints a line for each message.'
run collector "$build/dnstap" -u "$dir/tap.sock" -q
await test -S "$dir/tap.sock"
collector=$pid

say '2. A forwarder with a hosts file is the upstream; it has no tap.'
run upstream "$build/forwarder" --dns 127.0.0.1:0 --hosts "$dir/hosts"
port_of upstream
upstream=$pid

say '3. The forwarder in front of it logs to the collector.'
run front "$build/forwarder" --dns "$any" --upstream "127.0.0.1:$port" \
    --tap "unix://$dir/tap.sock" --full --identity demo
port_of front
front=$pid

say '4. Questions over UDP and TCP.'
ask 127.0.0.1 www.example.test A
ask $six www.example.test AAAA
ask 127.0.0.1 mail.example.test A tcp
ask $six nobody.example.test A tcp

say '5. What the collector printed: time, type, address, protocol, size, question.'
await all_arrived 16
cat "$dir/collector.out"

say '6. The forwarder ends, and prints its tap'\''s counters.'
kill -TERM "$front" && wait "$front" || give_up 'the forwarder ended badly'
grep ', logged' "$dir/front.err" || give_up 'no counters'
kill -TERM "$upstream" "$collector"

missing=
for type in CQ FQ FR CR; do
    for protocol in UDP TCP; do
        grep -q " $type [^ ]* $protocol " "$dir/collector.out" || missing="$missing $type/$protocol"
    done
done
[ -z "$missing" ] || give_up "missing among the messages:$missing"

say "You saw 4 questions go through a forwarder that holds dnstap.h, and the $(messages) messages it
logged: CLIENT_QUERY (CQ), FORWARDER_QUERY (FQ), FORWARDER_RESPONSE (FR) and CLIENT_RESPONSE (CR)
of each, over UDP and TCP, sent as Frame Streams over a unix socket and decoded by build/dnstap.
The 40 lines this took: grep -n dnstap examples/forwarder.c"
