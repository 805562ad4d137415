#!/bin/bash
# Many outputs at once: each at its own pace, none lost for another's sake; relays to collectors
# that die and come back; rotation, SIGHUP and the end under load. It is bash for its arrays.
# usage: tests/tool/outputs_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
knot=$data/knot-3.2.6-auth.fstrm
unset SSL_CERT_FILE
evidence="$dir/err"

told() { wait_for 20 grep -q -e "$1" "$dir/err"; }
fresh() { rm -rf "$dir"/r.* "$dir"/copy* "$dir/sock" "$dir/relay" "$dir/cap"* "$dir/pipe"; }
before_each() { fresh; }
replays() { fstrm_replay -t "$type" -r "$1" -u "$dir/sock" >/dev/null 2>&1; } # FILE
taken() { wait_for 20 eval '[ "$(grep -c "connection [0-9]*: closed" "$dir/err")" -ge '"$1"' ]'; }
frames() { # FILE...: how many are in them; each is whole, to its STOP
    for file; do
        tail -c 12 "$file" | cmp -s - <(printf '\0\0\0\0\0\0\0\4\0\0\0\3') ||
            { echo "$file has no STOP" >&2; return; }
        "$tool" --exact -r "$file" || return
    done | grep -c .
}
count_large=$(frames "$large")
count_knot=$(frames "$knot")
whole_copy() { cmp "$1" "$large"; }

# ---- one beside the other ----

all_formats() {
    "$tool" -r "$large" -w "$dir/copy" -w "$dir/copy2" -w - >"$dir/out" || return 1
    whole_copy "$dir/copy" && whole_copy "$dir/copy2" && "$tool" -q -r "$large" | cmp - "$dir/out"
}
check 'files, and quiet text on standard output, of one input' all_formats
mixed_inputs() {
    "$tool" -r "$knot" -r - -u "$dir/sock" -w "$dir/copy" <"$large" 2>"$dir/err" &
    pid=$!
    told listening && replays "$knot" && taken 1 &&
        wait_for 20 eval '[ "$(wc -c <"$dir/copy")" -gt $(($(wc -c <"$large") + 50000)) ]'
    stop 0 && [ "$(frames "$dir/copy")" = $((count_large + 2 * count_knot)) ]
}
check 'a file, standard input and a socket go into one file' mixed_inputs
check 'standard output twice is wrong usage' says 2 '-w: ' -r "$knot" -w - -w ''
check '-a adds to a file' eval '"$tool" -r "$knot" -w "$dir/copy" &&
    "$tool" -a -r "$knot" -w "$dir/copy" && [ "$(frames "$dir/copy")" = $((2 * count_knot)) ]'
check '-a cannot add to standard output' says 2 '-a: cannot append to standard output' -a -q \
    -r "$knot"
check '-a does not begin anew' says 2 '-a: ' -a --overwrite -r "$knot" -w "$dir/copy"

# ---- one that stalls, fails ----

# Nobody reads the pipe while more comes from the socket than the tool keeps.
stalled_loses_alone() {
    mkfifo "$dir/pipe"
    exec 9<>"$dir/pipe"
    "$tool" -u "$dir/sock" -w - -w "$dir/copy" --exact 2>"$dir/err" >"$dir/pipe" &
    pid=$!
    told listening || return 1
    for n in 1 2 3; do replays "$large" && taken $n || return 1; done
    told "standard output: it takes too little; messages lost so far: [1-9]" || return 1
    stop 1
    ended=$?
    exec 9>&-
    [ $ended = 0 ] && [ "$(grep -c . "$dir/copy")" = $((3 * count_large)) ] &&
        grep 'standard output: nobody reads it' "$dir/err" &&
        grep 'standard output: messages lost in all: [1-9]' "$dir/err"
}
check 'an output that nobody reads loses, and the others do not' stalled_loses_alone
# Read in spurts; a file is read no faster.
slow_reader() {
    "$tool" --exact -r "$large" -r "$large" -r "$large" -w - -w "$dir/copy" 2>"$dir/err" | {
        for _ in 1 2 3 4 5; do
            dd bs=64k count=1 iflag=fullblock 2>/dev/null
            sleep 0.1
        done
        cat
    } >"$dir/out"
    cmp "$dir/out" "$dir/copy" && [ ! -s "$dir/err" ] &&
        [ "$(grep -c . "$dir/copy")" = $((3 * count_large)) ]
}
check 'a slow reader of a file loses nothing' slow_reader
ends_while_waiting() { # for a pager
    mkfifo "$dir/pipe"
    exec 9<>"$dir/pipe"
    "$tool" --exact -r "$large" -r "$large" 2>"$dir/err" >"$dir/pipe" &
    pid=$!
    dd bs=1 count=1 <&9 >/dev/null 2>&1 # it writes
    stop 1
    ended=$?
    exec 9>&-
    return $ended
}
check 'SIGTERM ends it while a pager does not read' ends_while_waiting
head_leaves() {
    exits 1 "$tool" -q -r "$large" -w - -w "$dir/copy" 2>"$dir/err" > >(head -n 1 >/dev/null) &&
        grep '^dnstap: standard output: Broken pipe' "$dir/err" &&
        grep '^dnstap: standard output: messages lost in all: [1-9]' "$dir/err" &&
        "$tool" -q -r "$large" | cmp - "$dir/copy"
}
check 'where standard output is closed, the file goes on, and the end has status 1' head_leaves
full_device() {
    exits 1 "$tool" -r "$large" -w /dev/full -w "$dir/copy" 2>"$dir/err" &&
        grep '^dnstap: /dev/full: No space left on device' "$dir/err" && whole_copy "$dir/copy"
}
check 'where a device is full, the file goes on' full_device
pipe_is_awaited() { # that nobody reads yet does not keep the file waiting
    mkfifo "$dir/pipe"
    "$tool" -u "$dir/sock" -w "$dir/pipe" -w "$dir/copy" 2>"$dir/err" &
    pid=$!
    told listening && replays "$knot" && taken 1 && wait_for 10 grown "$dir/copy" || return 1
    cat "$dir/pipe" >"$dir/out" &
    reader=$!
    wait_for 10 grown "$dir/out"
    stop 0 && wait "$reader" && cmp "$dir/out" "$knot" && cmp "$dir/copy" "$knot"
}
check 'a named pipe is written when somebody reads it' pipe_is_awaited
mkdir "$dir/small"
fills_disk() {
    rm -f "$dir/small/log"
    exits 1 "$tool" -r "$large" -w "$dir/small/log" -w "$dir/copy" 2>"$dir/err" &&
        grep "^dnstap: $dir/small/log: write: No space left on device" "$dir/err" &&
        grep "^dnstap: $dir/small/log: messages lost in all: [1-9]" "$dir/err" &&
        whole_copy "$dir/copy" &&
        lost=$(sed -n 's/.*small.log: messages lost in all: //p' "$dir/err") &&
        [ $((lost + $("$tool" --exact -r "$dir/small/log" 2>/dev/null | grep -c .))) = \
            "$count_large" ]
}
if mount -t tmpfs -o size=256k dnstap-test "$dir/small" 2>/dev/null; then
    trap 'stop_all KILL; umount "$dir/small"; rm -rf "$dir"' EXIT
    check 'where a disk is full, what is lost is counted, and the other file goes on' fills_disk
else
    skip 'where a disk is full, what is lost is counted' 'tmpfs cannot be mounted here'
fi

# ---- relays ----

collect() { # FILE: fstrm_capture, at $dir/relay
    rm -f "$dir/relay"
    background fstrm_capture -t "$type" -u "$dir/relay" -w "$1" 2>/dev/null
    collector=$pid
    wait_for 10 [ -S "$dir/relay" ]
}
end_collector() {
    kill "$collector" && wait_for 10 eval '! kill -0 $collector'
}
relays_file() { # FLAGS...
    collect "$dir/cap" && "$tool" -r "$large" "$@" && end_collector && whole_copy "$dir/cap"
}
check '-U relays a file, byte for byte' relays_file -U "$dir/relay"
check '-T unix:// does, too' relays_file -T "unix://$dir/relay"
over_tcp() {
    new_port
    background fstrm_capture -t "$type" -a 127.0.0.1 -p "$port" -w "$dir/cap" 2>/dev/null
    collector=$pid
    wait_for 10 listens "$port" && "$tool" -r "$large" -T "127.0.0.1:$port" && end_collector &&
        whole_copy "$dir/cap"
}
check '-T HOST:PORT relays over TCP' over_tcp
ends_in() { # FILE STREAM...: the file is a stream that ends in all of these
    ended=$1
    shift
    for file; do tail -c +43 "$file" | head -c -12; done >"$dir/want"
    cmp <(tail -c $(($(wc -c <"$dir/want") + 12)) "$ended" | head -c -12) "$dir/want" &&
        [ -n "$(frames "$ended")" ]
}
# What comes while the collector is away is there when it is back. What was under way when it died
# may be in either file, or in none.
comes_back() {
    collect "$dir/cap1" && start -u "$dir/sock" -U "$dir/relay" -w "$dir/copy" || return 1
    relaying=$pid
    replays "$knot" && taken 1 && end_collector && told "$dir/relay: " && replays "$large" &&
        taken 2 && collect "$dir/cap2" && replays "$knot" && taken 3 || return 1
    pid=$relaying
    stop 0 && end_collector && ends_in "$dir/cap2" "$large" "$knot" && [ -s "$dir/cap1" ] &&
        [ "$(frames "$dir/copy")" = $((count_large + 2 * count_knot)) ]
}
check 'fstrm_capture dies and comes back, and has all' comes_back
golang() { # FILE
    rm -f "$dir/relay"
    background dnstap -q -u "$dir/relay" -w "$1" 2>/dev/null
    collector=$pid
    wait_for 10 [ -S "$dir/relay" ]
}
has_lines() { wait_for 20 eval '[ "$(grep -c . "'"$1"'" 2>/dev/null)" = '"$2"' ]'; }
golang_comes_back() {
    golang "$dir/cap1" && start -u "$dir/sock" -U "$dir/relay" || return 1
    relaying=$pid
    replays "$knot" && has_lines "$dir/cap1" "$count_knot" && end_collector &&
        told "$dir/relay: " && replays "$large" && golang "$dir/cap2" &&
        has_lines "$dir/cap2" "$count_large" || return 1
    pid=$relaying
    stop 0 && "$tool" -q -r "$large" | cmp - "$dir/cap2"
}
if missing dnstap; then
    skip 'golang-dnstap dies and comes back, and has all' 'dnstap is not installed'
else
    check 'golang-dnstap dies and comes back, and has all' golang_comes_back
fi
no_collector() {
    exits 1 "$tool" -u "$dir/sock" -U "$dir/relay" -w "$dir/copy" 2>"$dir/err" &
    pid=$!
    told listening && replays "$knot" && taken 1 && wait_for 10 grown "$dir/copy" &&
        pkill -TERM -P "$pid" && wait "$pid" && cmp "$dir/copy" "$knot" &&
        grep "^.*dnstap: $dir/relay: messages lost in all: $count_knot" "$dir/err"
}
check 'what a relay could not deliver is counted, and the end has status 1' no_collector

# One tool to the other, with certificates on both sides.
top=$PWD
(
    cd "$dir" && . "$top/tests/certificates.sh" && ca ca && ca otherca &&
        leaf server subjectAltName=IP:127.0.0.1 && leaf client && key stray P-256 &&
        sign stray otherca /CN=stray
) || exit 1
listen_tls() {
    new_port
    start -l "tls://127.0.0.1:$port" --tls-cert "$dir/server.pem" --tls-key "$dir/server.key" \
        --tls-ca "$dir/ca.pem" -w "$dir/copy"
}
passes_on() { # NAME FLAGS...: who does
    name=$1
    shift
    "$tool" "$@" -T "tls://127.0.0.1:$port" --tls-ca "$dir/ca.pem" \
        --tls-cert "$dir/$name.pem" --tls-key "$dir/$name.key" 2>"$dir/said"
}
with_certificates() {
    listen_tls && passes_on client -r "$large" && taken 1 && stop 0 && whole_copy "$dir/copy"
}
check 'a relay with a certificate gets in over TLS' with_certificates
strangers() {
    listen_tls || return 1
    listening=$pid
    mkfifo "$dir/pipe"
    exec 9<>"$dir/pipe"
    passes_on stray -r "$dir/pipe" &
    cat "$knot" >&9
    wait_for 10 grep -q 'tls://127.0.0.1:[0-9]*: ' "$dir/said"
    pkill -TERM -P $!
    exits 1 wait $! && grep -q "messages lost in all: $count_knot" "$dir/said" || return 1
    exec 9>&-
    pid=$listening
    stop 0 && [ "$(wc -c <"$dir/copy")" = 54 ]
}
check 'a relay with a stranger'\''s certificate does not' strangers

# ---- many connections ----

many() {
    collect "$dir/cap" && start -u "$dir/sock" -w "$dir/copy" -U "$dir/relay" || return 1
    crowd=()
    for _ in {1..64}; do
        fstrm_replay -t "$type" -r "$knot" -u "$dir/sock" >/dev/null 2>&1 &
        crowd+=($!)
    done
    wait "${crowd[@]}" && taken 64 && stop 0 && end_collector &&
        [ "$(frames "$dir/copy")" = $((64 * count_knot)) ] &&
        [ "$(frames "$dir/cap")" = $((64 * count_knot)) ]
}
check '64 connections at once go into a file and a relay' many
crowded() {
    start -u "$dir/sock" --max-connections 1 --exact || return 1
    "$feed" "$dir/sock" "$bad/h00-good.c2s" 20 >/dev/null 2>&1 &
    wait_for 10 eval '[ "$(ls -l "/proc/$pid/fd" | grep -c socket:)" = 2 ]' || return 1
    "$feed" "$dir/sock" "$bad/h00-good.c2s" >/dev/null 2>&1
    told 'all places are taken; refused so far: 1' && stop 0
}
check '--max-connections bounds them' crowded
silent_leaves() {
    start -u "$dir/sock" --idle 100ms --exact || return 1
    head -c -12 "$bad/h00-good.c2s" >"$dir/open"
    "$feed" "$dir/sock" "$dir/open" >/dev/null 2>&1 &
    told 'connection 1: silent for longer' && stop 0
}
check '--idle ends a connection that is silent' silent_leaves
check '-t ends a handshake that takes longer' eval 'start -u "$dir/sock" -t 100ms --exact &&
    : >"$dir/nothing" && { "$feed" "$dir/sock" "$dir/nothing" >/dev/null 2>&1 & } &&
    told "connection 1: no progress in 100 ms" && stop 0'
check 'a time without its unit is wrong usage, as in Go' says 2 '-t: ' -t 5 -r "$knot"

# ---- rotation ----

by_size() {
    "$tool" -r "$large" -w "$dir/r.%Y" --rotate-size 100k || return 1
    set -- "$dir"/r.*
    [ $# -gt 20 ] && [ "$(frames "$@")" = "$count_large" ] || return 1
    for file; do [ "$(wc -c <"$file")" -le 102400 ] || return 1; done
    [ -e "$dir/r.$(date +%Y)" ] && [ -e "$dir/r.$(date +%Y).1" ]
}
check '--rotate-size begins another file before one is larger' by_size
goes_on_numbering() {
    by_size && "$tool" -r "$large" -w "$dir/r.%Y" --rotate-size 100k &&
        [ "$(frames "$dir"/r.*)" = $((2 * count_large)) ]
}
check 'files that are full stay as they are' goes_on_numbering
large_messages() { # one that is larger than a file may be has one of its own
    "$tool" --exact -r "$knot" -w "$dir/r.x" --rotate-size 1k || return 1
    cat $(ls -v "$dir"/r.*) | cmp - <(expected knot-3.2.6-auth)
}
check 'text rotates between its lines' large_messages
by_time() { # while messages come
    start -u "$dir/sock" -w "$dir/r.%H%M%S" --rotate-time 1s || return 1
    rounds=0
    while [ "$(ls "$dir"/r.* | wc -l)" -lt 4 ] && [ $rounds -lt 200 ]; do
        replays "$knot" && rounds=$((rounds + 1)) || return 1
        sleep 0.05
    done
    taken $rounds && stop 0 && [ "$(ls "$dir"/r.* | wc -l)" -ge 4 ] &&
        [ "$(frames "$dir"/r.*)" = $((rounds * count_knot)) ]
}
check '--rotate-time begins another file on time, and loses nothing' by_time
check 'rotating needs a file' says 2 'rotating: ' -r "$knot" --rotate-size 1M
check 'a size is bytes' says 2 '--rotate-size: ' -r "$knot" -w "$dir/copy" --rotate-size lots
check 'without rotating, a name is as it is' eval '"$tool" -r "$knot" -w "$dir/r.%Y" &&
    cmp "$dir/r.%Y" "$knot"'
no_next_file() { # the folder for the next hour is not there
    exits 1 "$tool" -r "$large" -w "$dir/r.d/x%S" --rotate-size 100k 2>"$dir/err" &&
        grep "^dnstap: $dir/r.d/x[0-9]*: open: No such file" "$dir/err"
}
check 'where the next file does not open, it is said' no_next_file

# ---- SIGHUP and the end ----

hangs_up() {
    start -u "$dir/sock" -w "$dir/r.log" || return 1
    for n in 1 2 3 4 5 6 7 8; do
        replays "$large" &
        feeder=$!
        mv "$dir/r.log" "$dir/r.$n" && kill -HUP "$pid" && wait_for 10 [ -e "$dir/r.log" ] &&
            wait "$feeder" || return 1
    done
    taken 8 && stop 0 && [ "$(frames "$dir"/r.*)" = $((8 * count_large)) ]
}
check 'SIGHUP under load loses nothing' hangs_up
hangs_up_in_place() { # the file is still there
    start -u "$dir/sock" -w "$dir/copy" && replays "$large" && kill -HUP "$pid" &&
        replays "$large" && kill -HUP "$pid" && taken 2 && stop 0 &&
        [ "$(frames "$dir/copy")" = $((2 * count_large)) ]
}
check 'SIGHUP without moving the file empties nothing' hangs_up_in_place
# At any moment of a file, or while a socket brings messages.
interrupted() { # SIGNAL
    for moment in 0 1 2 3 4 5 6 7 8 9; do
        fresh
        cat "$large" "$large" "$large" "$large" >"$dir/in" 2>/dev/null
        start -u "$dir/sock" -w "$dir/copy" || return 1
        replays "$large" &
        feeder=$!
        wait_for 5 eval '[ "$(wc -c <"$dir/copy")" -gt $((moment * 100000)) ]'
        kill "-$1" "$pid"
        wait "$pid"
        got=$?
        wait "$feeder"
        [ $got = 0 ] && [ -n "$(frames "$dir/copy")" ] && is_prefix || return 1
    done
}
is_prefix() {
    cmp -s <(head -c -12 "$dir/copy") <(head -c $(($(wc -c <"$dir/copy") - 12)) "$large") &&
        dnstap-read "$dir/copy" >"$dir/read" &&
        [ "$(grep -c . "$dir/read")" = "$(frames "$dir/copy")" ]
}
check 'SIGINT at any moment leaves a file that is whole, to its STOP' interrupted INT
check 'SIGTERM does, too' interrupted TERM
killed() { # a file is readable to its last whole frame even then
    for moment in 0 3 6 9; do
        fresh
        start -u "$dir/sock" -w "$dir/copy" || return 1
        replays "$large" &
        feeder=$!
        wait_for 5 eval '[ "$(wc -c <"$dir/copy")" -gt $((moment * 100000)) ]'
        kill -KILL "$pid"
        wait "$pid" "$feeder"
        exits 0 "$tool" --exact -r "$dir/copy" >"$dir/read" 2>"$dir/said" || return 1
        expected unbound-1.17.1-large | head -n "$(grep -c . "$dir/read")" | cmp - "$dir/read" ||
            return 1
    done
}
check 'a file is whole frames even when the tool is killed' killed
twice() { # the first one waits for who does not read
    mkfifo "$dir/pipe"
    exec 9<>"$dir/pipe"
    "$tool" --exact -r "$large" -w - 2>"$dir/err" >"$dir/pipe" &
    pid=$!
    dd bs=1 count=1 <&9 >/dev/null 2>&1 # it writes
    kill -TERM "$pid"
    while kill -INT "$pid" 2>/dev/null; do :; done
    wait "$pid"
    got=$?
    exec 9>&-
    [ $got = 130 ] || [ $got = 143 ] || { echo "exit status $got"; return 1; }
}
check 'a second signal ends it at once' twice

finish
