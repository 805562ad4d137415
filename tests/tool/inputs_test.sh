#!/bin/bash
# Where the tool reads from, and what counts as a failure: strays on its sockets, cut and empty
# files, standard input, addresses; descriptors and places that run out. It is bash for its TCP.
# usage: tests/tool/inputs_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
good=$bad/h00-good.c2s

told() { grep -c -e "$1" "$dir/err"; }
tells() { wait_for 10 grep -q -e "$1" "$dir/err" || { cat "$dir/err"; return 1; }; }
feeds() { # PATH [FILE]: one message, which comes out
    local before
    before=$(grep -c . "$dir/out")
    "$feed" "$1" "${2:-$good}" >/dev/null 2>&1
    wait_for 10 eval '[ "$(grep -c . "$dir/out")" -gt '"$before"' ]'
}

# ---- strays ----

scanned() { # connects and leaves, as a port scan does; asks for a page; both are told of
    start_tcp -u "$dir/sock" --exact || return 1
    (: >"/dev/tcp/127.0.0.1/$port")
    tells 'connection 1: is empty' || return 1
    (printf 'GET / HTTP/1.0\r\n\r\n' >"/dev/tcp/127.0.0.1/$port")
    tells 'connection 2: not Frame Streams' && feeds "$dir/sock" && stop 0
}
check 'a port scan and a probe are no failures' scanned
dawdles() { # says nothing at all, until its time is over
    start -u "$dir/sock" --exact || return 1
    : >"$dir/nothing"
    "$feed" "$dir/sock" "$dir/nothing" >/dev/null 2>&1 &
    wait $!
    "$feed" "$dir/sock" "$good" 5 >/dev/null 2>&1
    tells 'connection 2: ends before START' && stop 0
}
check 'a connection that leaves inside its handshake is no failure' dawdles
# A good message, then a control frame that is longer than any may be.
breaks_off() {
    { head -c -12 "$good"; printf '\0\0\0\0\0\1\0\0'; } >"$dir/broken"
    start -u "$dir/sock" --exact && feeds "$dir/sock" "$dir/broken" &&
        tells 'connection 1: not Frame Streams' && stop 1
}
check 'a stream that breaks the rules behind a message is a failure' breaks_off
cut_off() { # a producer that dies inside a frame
    { head -c -12 "$good"; printf '\0\0\0\100abc'; } >"$dir/cut"
    start -u "$dir/sock" --exact && feeds "$dir/sock" "$dir/cut" &&
        tells 'connection 1: ends inside a frame' && stop 0
}
check 'a producer that dies is no failure' cut_off

# ---- files ----

: >"$dir/nothing"
check 'an empty file is said to be empty' says 1 "$dir/nothing: is empty" -r "$dir/nothing"
check 'empty standard input is said to be empty' eval '
    says 1 "standard input: is empty" -r - </dev/null'
check 'a file that is cut is a failure' eval 'head -c 5000 "$large" >"$dir/cut" &&
    says 1 "$dir/cut: ends inside a frame" -r "$dir/cut"'
check 'a file that is cut in a frame too large to hold is a failure' eval '
    { head -c 42 "$large"; printf "\177\0\0\0abc"; } >"$dir/cut" &&
    says 1 "$dir/cut: ends inside a frame that is larger" -r "$dir/cut"'

expected knot-3.2.6-auth >"$dir/want"
knot=$data/knot-3.2.6-auth.fstrm
check 'standard input is read from a file' eval '
    "$tool" --exact -r - <"$knot" | cmp "$dir/want" -'
check 'standard input is read from a pipe' eval '
    cat "$knot" | "$tool" --exact -r - | cmp "$dir/want" -'
check 'standard input is read from where it stands' eval '
    { printf "ten bytes."; cat "$knot"; } >"$dir/behind" &&
    { dd bs=1 count=10 of=/dev/null 2>/dev/null; "$tool" --exact -r -; } <"$dir/behind" |
    cmp "$dir/want" -'
# What no path such as /dev/stdin leads to.
socket_is_input() {
    socat -u "FILE:$knot" "EXEC:$tool --exact -r -" >"$dir/read" &&
        wait_for 10 cmp "$dir/want" "$dir/read" &&
        socat -u "FILE:$knot" "EXEC:$tool -r /dev/stdin" 2>&1 | grep 'No such device or address'
}
check 'standard input is read from a socket' socket_is_input
check 'standard input and files come out in their order' eval '
    { cat "$dir/want"; expected kdig-3.2.6-tool; cat "$dir/want"; } >"$dir/all" &&
    "$tool" --exact -r "$knot" -r - -r "$knot" <"$data/kdig-3.2.6-tool.fstrm" |
    cmp "$dir/all" -'
check 'a name that a terminal would obey is printed harmlessly' eval '
    ! "$tool" -r "$(printf "none\033[31m\302\233\177\n")" 2>"$dir/said" &&
    grep -q "none.x1b.31m.xc2.x9b.x7f: open: No such file" "$dir/said" &&
    ! LC_ALL=C grep -n "[^ -~]" "$dir/said"'

# ---- gzip ----

gzip -c "$large" >"$dir/large.gz"
reads() { # STATUS FILE [TEXT]: how many messages come out
    exits "$1" "$careful" --exact -r "$2" >"$dir/read" 2>"$dir/err" || return 1
    [ -z "${3:-}" ] && [ ! -s "$dir/err" ] || grep -e "^dnstap: $2: $3" "$dir/err"
}
is_large() { expected unbound-1.17.1-large | cmp - "$dir/read"; }
members() { # several files of gzip's, one behind the other, cut anywhere
    for from in 0 10 42 1000 70000 2000000; do
        [ $from = 0 ] || { head -c $from | gzip -c >>"$dir/members.gz"; }
    done <"$large"
    tail -c +2071053 "$large" | gzip -c >>"$dir/members.gz"
    reads 0 "$dir/members.gz" && is_large
}
check 'a file that is compressed is read' eval 'reads 0 "$dir/large.gz" && is_large'
check 'members of gzip are read one behind the other' members
check 'zeros behind them are passed over' eval '
    { cat "$dir/large.gz"; head -c 1000 /dev/zero; } >"$dir/zeros.gz" &&
    reads 0 "$dir/zeros.gz" && is_large'
check 'a compressed file that is cut is a failure, and what was before it comes out' eval '
    head -c 100000 "$dir/large.gz" >"$dir/cut.gz" && reads 1 "$dir/cut.gz" "ends inside its comp" &&
    [ "$(grep -c . "$dir/read")" -gt 1000 ] && expected unbound-1.17.1-large |
    head -n "$(grep -c . "$dir/read")" | cmp - "$dir/read"'
check 'a checksum that does not agree is a failure' eval '
    { head -c -8 "$dir/large.gz"; printf abcdefgh; } >"$dir/sum.gz" &&
    reads 1 "$dir/sum.gz" "its compressed data are damaged" && is_large'
check 'garbage behind it is a failure' eval '
    { cat "$dir/large.gz"; echo garbage; } >"$dir/more.gz" &&
    reads 1 "$dir/more.gz" "its compressed data are damaged, or something else" && is_large'
check 'damage in it is a failure' eval '{ head -c 50000 "$dir/large.gz"; cat "$dir/large.gz"; } \
    >"$dir/bad.gz" && reads 1 "$dir/bad.gz" "its compressed data are damaged"'
check 'garbage instead of it is' eval 'echo garbage >"$dir/none.gz" &&
    reads 1 "$dir/none.gz" "not Frame Streams"'
check 'an empty one is said to be empty' eval ': >"$dir/empty.gz" &&
    reads 1 "$dir/empty.gz" "is empty"'
check 'one that is not there is said' eval 'reads 1 "$dir/absent.gz" "" ||
    grep "^dnstap: $dir/absent.gz: .*No such file" "$dir/err"'
check 'what is not compressed in spite of its name is read' eval 'cp "$large" "$dir/plain.gz" &&
    reads 0 "$dir/plain.gz" && is_large'
waits_for_gz() { # a pipe that stays open; what it brought shows
    mkfifo "$dir/pipe.gz"
    exec 9<>"$dir/pipe.gz"
    background "$tool" --exact -r "$dir/pipe.gz" >"$dir/read"
    cat "$dir/large.gz" >&9
    wait_for 20 is_large
    shown=$?
    exec 9>&-
    return $shown
}
check 'a compressed pipe shows what it has brought' waits_for_gz

# ---- as it comes ----

shows_at_once() {
    start -u "$dir/sock" -q || return 1
    "$feed" "$dir/sock" "$bad/h00-good.c2s" >/dev/null &
    peer=$!
    wait_for 10 grep -q 'www.example.test' "$dir/out"
    shown=$?
    wait $peer
    stop 0 && return $shown
}
# The tool sleeps while the producer sends and SIGTERM comes.
delivers_at_the_end() {
    start -u "$dir/sock" --exact || return 1
    kill -STOP $pid
    "$feed" "$dir/sock" "$bad/h00-good.c2s" >/dev/null 2>"$dir/sent" &
    peer=$!
    wait_for 10 grep -q sent "$dir/sent"
    kill -TERM $pid
    kill -CONT $pid
    exits 0 wait $pid && wait $peer && [ "$(grep -c . "$dir/out")" = 1 ]
}
# A pipe that has brought some messages and stays open.
reads_pipe() {
    rm -f "$dir/copy"
    mkfifo "$dir/pipe" || return 1
    background "$tool" -r "$dir/pipe" -w "$dir/copy"
    exec 9>"$dir/pipe"
    head -c 5000 "$data/kdig-3.2.6-tool.fstrm" >&9
    wait_for 10 grown "$dir/copy"
    shown=$?
    kill $pid
    wait_for 5 eval '! kill -0 $pid'
    ended=$?
    exec 9>&-
    exits 0 wait $pid && [ $shown = 0 ] && [ $ended = 0 ] && "$tool" -r "$dir/copy" >"$dir/out" &&
        [ "$(grep -c . "$dir/out")" = 7 ]
}
check 'what was sent before SIGTERM still comes out' delivers_at_the_end
check 'a message shows while the tool runs' shows_at_once
check 'a pipe is read as it fills, and SIGTERM ends it' reads_pipe
check 'several files come out in their order' eval '
    { expected unbound-1.17.1-large; cat "$dir/want"; } >"$dir/all" &&
    "$tool" --exact -r "$large" -r "$knot" | cmp "$dir/all" -'

# ---- addresses ----

everywhere() {
    new_port
    start -l ":$port" --exact || return 1
    fstrm_replay -t "$type" -r "$knot" -a 127.0.0.1 -p "$port" &&
        wait_for 10 cmp "$dir/want" "$dir/out" && stop 0
}
check '-l :PORT listens' everywhere
rights() {
    start -u "$dir/sock" --socket-mode 0620 --socket-group "$(id -g)" --exact || return 1
    [ "$(stat -c '%a %g' "$dir/sock")" = "620 $(id -g)" ] && feeds "$dir/sock" && stop 0
}
check '--socket-mode and --socket-group are the rights of a unix socket' rights
no_rights() {
    "$tool" -u "$dir/sock" --socket-group no-such-group 2>"$dir/err"
    [ $? = 1 ] && told 'there is no group "no-such-group"' && [ ! -e "$dir/sock" ] || return 1
    "$tool" -u "$dir/sock" --socket-mode 999 2>"$dir/err"
    [ $? = 2 ] && told 'give it in octal'
}
check 'a group that is not there, and a mode that is none, are refused' no_rights
check '-u @NAME listens without a file' eval '
    start -u "@dnstap-test-$$" --exact && feeds "@dnstap-test-$$" && stop 0 &&
    [ ! -e "@dnstap-test-$$" ]'

# ---- what runs out ----

# No descriptor is left for the first connection; when there are more, it is served.
few() { ulimit -S -n 6 && exec "$tool" "$@"; }
out_of_descriptors() {
    listener=few
    start -u "$dir/sock" --exact
    local started=$? producer
    listener=$tool
    [ $started = 0 ] || return 1
    "$feed" "$dir/sock" "$good" >"$dir/answer" 2>/dev/null &
    producer=$!
    tells 'accept: Too many open files' && kill -0 $pid && prlimit --pid $pid --nofile=64: &&
        wait_for 10 grep -q . "$dir/out" && wait $producer && stop 0 && [ "$(told 'Too many')" = 1 ]
}
check 'a collector without descriptors waits for some' out_of_descriptors

out_of_places() {
    local i fd fds=()
    start_tcp -u "$dir/sock" --exact || return 1
    for ((i = 1; i <= 64; i++)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$port" && fds+=("$fd")
    done
    for i in 1 2 3; do (: >"/dev/tcp/127.0.0.1/$port"); done
    tells 'all places are taken; refused so far: 1$'
    local seen=$?
    for fd in "${fds[@]}"; do exec {fd}>&-; done
    [ $seen = 0 ] && tells 'connection 64: is empty' && [ "$(told refused)" = 1 ] && stop 0
}
check 'connections without a place are told of, but not each' out_of_places

finish
