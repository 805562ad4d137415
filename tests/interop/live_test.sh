#!/bin/bash
# Real partners, live, on loopback: our tap into fstrm_capture and golang-dnstap's tool; Unbound,
# BIND, Knot, dnsdist, fstrm_replay and golang-dnstap into our tool; files into dnstap-read, kdig
# and fstrm_dump. Everything is waited for, with a deadline; a partner that is missing is skipped.
# usage: tests/interop/live_test.sh [BUILD [PART-OF-A-TEST'S-NAME]]
. "$(dirname "$0")/../harness.sh"
data=tests/data
type=protobuf:dnstap.Dnstap
PATH=$PATH:/usr/sbin:/sbin
export TZ=UTC

# ---- what the tests are written with ----

evidence=$dir/log
before_each() { rm -rf "${dir:?}"/*; } # each has the folder to itself
start() { # COMMAND...: in the background, its output in $dir/log; $pid is its process
    background "$@" >>"$dir/log" 2>&1
}
stop() { # [SIGNAL [PID]]: ends one, and waits for its end
    local target=${2:-$pid}
    kill "-${1:-TERM}" "$target" 2>/dev/null
    wait "$target" 2>/dev/null
    return 0
}

live() { # "NAME" "PROGRAM..." FUNCTION [ARGUMENT...]: one test
    local name=$1 why
    if why=$(missing $2); then # a list of programs
        skip "$name" "$why"
    else
        shift 2
        check "$name" "$@"
    fi
}

# Two kinds of address for the same test: $tap for our tap, and the partners' own options.
address() { # unix|tcp
    if [ "$1" = unix ]; then
        socket=$dir/s tap=unix://$dir/s
        capture=(-u "$socket") ours=(-u "$socket") theirs=(-u "$socket") relay=(-U "$socket")
    else
        new_port
        tap=tcp://127.0.0.1:$port
        capture=(-a 127.0.0.1 -p "$port") ours=(-l "127.0.0.1:$port")
        theirs=("${ours[@]}") relay=(-T "127.0.0.1:$port")
    fi
    transport=$1
}
ready() { if [ "$transport" = unix ]; then [ -S "$socket" ]; else listens "$port"; fi; }

# ---- our tap, real collectors ----

tap_to_fstrm_capture() { # unix|tcp COUNT
    address "$1"
    start fstrm_capture -t $type "${capture[@]}" -w "$dir/captured"
    wait_for 5 ready || return
    "$build/tap_source" "$tap" "$2" "$dir/expected" || return
    stop
    cmp "$dir/expected" "$dir/captured"
}

late_fstrm_capture() { # the collector comes after the tap has begun
    address unix
    start "$build/tap_source" "$tap" 500 "$dir/expected"
    local source=$pid
    wait_for 5 test -s "$dir/expected" || return
    start fstrm_capture -t $type "${capture[@]}" -w "$dir/captured"
    wait "$source" || return
    stop
    cmp "$dir/expected" "$dir/captured"
}

tap_to_golang() { # unix|tcp COUNT
    address "$1"
    start dnstap "${theirs[@]}" -j -w "$dir/out.json"
    wait_for 5 ready || return
    "$build/tap_source" "$tap" "$2" "$dir/expected" || return
    dnstap -r "$dir/expected" -j -w "$dir/expected.json" || return
    wait_for 5 cmp "$dir/out.json" "$dir/expected.json"
}

# ---- our file, real readers ----

file_to() { # PATTERN COMMAND...: the reader prints a line with it for each message in our file
    local pattern=$1 found
    shift
    timeout 2 "$build/tap_source" "file://$dir/file" 140 "$dir/expected" || return
    cmp "$dir/expected" "$dir/file" || return
    found=$("$@" "$dir/file" 2>&1 | grep -a -c -E "$pattern")
    [ "$found" = 140 ] || { echo "$found of 140 messages" && return 1; }
}

# ---- real producers, our tool ----

tool() { # unix|tcp FORMAT...: our tool listens, and writes $dir/out
    address "$1"
    shift
    start "$build/dnstap" "${ours[@]}" "$@" -w "$dir/out"
    collector=$pid
    wait_for 5 ready
}

frames_arrive() { # unix|tcp FILE COMMAND...: what it sends of FILE is what our tool wrote
    local file=$2
    tool "$1" || return
    shift 2
    case $1 in
    fstrm_replay) timeout 20 fstrm_replay -t $type -r "$file" "${capture[@]}" || return ;;
    dnstap) timeout 20 dnstap -r "$file" "${relay[@]}" || return ;;
    esac
    stop TERM "$collector"
    cmp "$file" "$dir/out"
}

configure() { # NAME PORT UPSTREAM SINK: the configuration of a server, in $dir/NAME
    mkdir -p "$dir/knot"
    cp $data/interop/example.test.zone "$dir"
    sed -e "s|@DIR@|$dir|g" -e "s|@PORT@|$2|g" -e "s|@UPSTREAM@|$3|g" -e "s|@SINK@|$4|g" \
        "$data/interop/$1" >"$dir/$1"
}
# Copies are run, since AppArmor's rules for the installed ones forbid them our folder.
unconfined() { cp "$(command -v "$1")" "$dir/$1"; }
ask() { kdig +timeout=1 +retry=0 @127.0.0.1 -p "$@"; }
answers() { ask "$1" www.example.test | grep -q NOERROR; }

start_bind() { # SINK: authoritative, at $auth
    new_port
    auth=$port
    configure bind.conf "$auth" 0 "$1"
    unconfined named
    start "$dir/named" -g -4 -n 1 -c "$dir/bind.conf"
}
start_knot() { # SINK: authoritative, at $auth
    new_port
    auth=$port
    configure knot.conf "$auth" 0 "$1"
    start knotd -c "$dir/knot.conf"
}

drive() { # PORT: questions over UDP and TCP
    wait_for 10 answers "$1" || return
    ask "$1" mail.example.test A && ask "$1" +tcp txt.example.test TXT && ask "$1" no.example.test A
}
# The servers hand their messages on after up to three seconds.
logged() { # PATTERN...: lines that our tool has written, or will
    local pattern
    for pattern; do
        wait_for 6 grep -E "$pattern" "$dir/out" || { cat "$dir/out" && return 1; }
    done
}
# What a server that knows example.test must log of drive, as QUERY and RESPONSE.
logged_questions() {
    logged "^..:..:...* $1 127\.0\.0\.1 UDP [0-9]+b \"mail\.example\.test\.\" IN A$" \
        " $2 127\.0\.0\.1 UDP [0-9]+b \"mail\.example\.test\.\" IN A$" \
        " $1 127\.0\.0\.1 TCP [0-9]+b \"txt\.example\.test\.\" IN TXT$" \
        " $2 127\.0\.0\.1 TCP [0-9]+b \"txt\.example\.test\.\" IN TXT$" \
        " $1 127\.0\.0\.1 UDP [0-9]+b \"no\.example\.test\.\" IN A$"
}
tool_is_well() { # SERVER-PID: after the server's end it still serves, and ends in order
    stop TERM "$1" && kill -0 "$collector" && stop TERM "$collector"
}

bind_to_tool() {
    tool unix -q || return
    start_bind "$socket"
    drive "$auth" || return
    logged_questions AQ 'A|AR' && tool_is_well "$pid"
}
knot_to_tool() {
    tool unix -q || return
    start_knot "$socket"
    drive "$auth" || return
    logged_questions AQ AR && tool_is_well "$pid"
}
unbound_to_tool() { # unix|tcp
    local sink
    tool "$1" -q || return
    sink="dnstap-socket-path: $dir/s"
    [ "$1" = unix ] || sink="dnstap-ip: 127.0.0.1@$port
  dnstap-tls: no"
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    new_port
    configure unbound.conf "$port" "$auth" SINK
    printf '%s\n' "$sink" >"$dir/sink"
    sed -i -e "/SINK/{r $dir/sink" -e 'd}' "$dir/unbound.conf"
    sed -i 's/^dnstap-/  dnstap-/' "$dir/unbound.conf"
    unconfined unbound
    start "$dir/unbound" -d -c "$dir/unbound.conf"
    drive "$port" || return
    logged_questions CQ CR && logged ' RQ 127.* "mail' ' RR 127.* "mail' && tool_is_well "$pid"
}
dnsdist_to_tool() { # unix|tcp
    local sink
    tool "$1" -q || return
    sink="newFrameStreamUnixLogger(\"$dir/s\")"
    [ "$1" = unix ] || sink="newFrameStreamTcpLogger(\"127.0.0.1:$port\")"
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    new_port
    configure dnsdist.conf "$port" "$auth" "$sink"
    start dnsdist --supervised --disable-syslog -C "$dir/dnsdist.conf"
    drive "$port" || return
    logged_questions CQ CR && tool_is_well "$pid"
}

# ---- the tests ----

built tap_source dnstap || exit 1

for over in unix tcp; do
    live "our tap to fstrm_capture over $over" fstrm_capture tap_to_fstrm_capture $over 30000
    live "our tap to golang-dnstap over $over" dnstap tap_to_golang $over 500
done
live 'our tap to fstrm_capture that comes later' fstrm_capture late_fstrm_capture

live 'our file is read by fstrm_dump' fstrm_dump file_to '^Data frame' fstrm_dump
live 'our file is read by dnstap-read' dnstap-read file_to '\.example\.test/IN/A$' dnstap-read
live 'our file is read by kdig' kdig file_to '^;; n[0-9]+\.example\.test\.' kdig +qr -G

for over in unix tcp; do
    for file in "$data"/bind-*-auth.fstrm "$data"/unbound-*-large.fstrm; do
        live "fstrm_replay of ${file##*/} to our tool over $over" fstrm_replay \
            frames_arrive $over "$file" fstrm_replay
    done
    live "golang-dnstap to our tool over $over" dnstap \
        frames_arrive $over "$data"/knot-*-auth.fstrm dnstap
    live "Unbound to our tool over $over" 'unbound knotd kdig' unbound_to_tool $over
    live "dnsdist to our tool over $over" 'dnsdist knotd kdig' dnsdist_to_tool $over
done
live 'BIND to our tool' 'named kdig' bind_to_tool
live 'Knot to our tool' 'knotd kdig' knot_to_tool
finish
