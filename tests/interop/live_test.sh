#!/bin/bash
# Real partners, live, on loopback: our tap into fstrm_capture and golang-dnstap's tool; Unbound,
# BIND, Knot, dnsdist, fstrm_replay and golang-dnstap into our tool; files into dnstap-read, kdig
# and fstrm_dump. Everything is waited for, with a deadline; a partner that is missing is skipped.
# usage: tests/interop/live_test.sh [BUILD [PART-OF-A-TEST'S-NAME]]
. "$(dirname "$0")/live_lib.sh"

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
    tool "$1" -q || return
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    start_unbound "$(unbound_sink "$1")"
    drive "$server" || return
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
