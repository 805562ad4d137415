#!/bin/sh
# The tool from outside: its formats against recorded output, malformed streams through file and
# socket, copies byte for byte, real peers over unix and TCP, signals, flags.
# usage: tests/tool/tool_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
data=tests/data
bad=$data/malformed
export TZ=UTC LC_ALL=C

built dnstap || exit 1
tool=$build/dnstap
feed=$dir/feed
careful=$dir/dnstap # the same under sanitizers, for what is malformed
${CC:-cc} -std=c99 -O1 -o "$feed" tests/tool/feed.c &&
    ${CC:-cc} -std=c99 -O1 -I. -o "$dir/odd_stream" tests/tool/odd_stream.c \
        -lprotobuf-nanopb -lbearssl -lpthread &&
    ${CC:-cc} -std=c99 -O1 -g -I. -fsanitize=address,undefined -fno-sanitize-recover=all \
        examples/dnstap/*.c -lprotobuf-nanopb -lbearssl -lpthread -lldns -o "$careful" || exit 1

# exits STATUS COMMAND...: a status above 2 is a crash or a sanitizer's
exits() {
    want=$1
    shift
    "$@"
    got=$?
    [ $got = "$want" ] || { echo "exit status $got instead of $want"; return 1; }
}

# ---- formats ----

expected() { # NAME: prints what --exact is to print
    cat "$data/expected/$1.expected.jsonl" 2>/dev/null ||
        gzip -dc "$data/expected/$1.expected.jsonl.gz"
}

exact_is_as_recorded() {
    expected "$1" >"$dir/want" && "$tool" -r "$data/$1.fstrm" --exact >"$dir/out" &&
        cmp "$dir/want" "$dir/out"
}

for file in "$data"/*.fstrm; do
    name=$(basename "$file" .fstrm)
    check "every field of $name comes out exactly" exact_is_as_recorded "$name"
done

# Reading is no failure where the stream only lacks its end (nostop, trunc).
quiet_is_as_recorded() { # NAME STATUS
    exits "$2" "$tool" -r "$data/golang-dnstap/$1.tap" >"$dir/out" &&
        cmp "$data/golang-dnstap/$1.q.out" "$dir/out"
}

for file in "$data"/golang-dnstap/*.tap; do
    name=$(basename "$file" .tap)
    case $name in wrongct) status=1 ;; *) status=0 ;; esac
    check "quiet lines of $name are golang-dnstap's" quiet_is_as_recorded "$name" $status
done

quiet_equals_the_peer() {
    "$tool" -q -r "$1" >"$dir/out" 2>"$dir/err" &&
        dnstap -q -r "$1" >"$dir/want" 2>/dev/null && cmp "$dir/want" "$dir/out"
}

for file in "$data"/*.fstrm; do
    check "quiet lines of $(basename "$file" .fstrm) are golang-dnstap's, live" \
        quiet_equals_the_peer "$file"
done

# A question that is cut before its class is none; golang-dnstap's tool makes it CLASS0.
odd_lines_agree() { # KIND
    "$dir/odd_stream" "$1" >"$dir/odd" && "$careful" -q -r "$dir/odd" >"$dir/out" || return 1
    dnstap -q -r "$dir/odd" 2>"$dir/err" | case $1 in
        messages) sed 's/b ".*" CLASS0 .*/b X /' ;;
        *) cat ;;
    esac | cmp - "$dir/out" && [ "$(grep -c . "$dir/out")" -ge 8000 ]
}

for kind in types classes names addresses messages; do
    check "quiet lines of odd $kind are golang-dnstap's" odd_lines_agree $kind
done

# Where golang-dnstap's tool is at fault: it stops at a bad payload, and panics when there is no
# message in one.
good='22:13:20.123456 CQ 127.0.0.1 UDP 34b "www.example.test." IN A
'
prints() { # CASE STATUS TEXT: the quiet lines of a malformed file
    printf %s "$3" >"$dir/want"
    exits "$2" "$careful" -q -r "$bad/$1.fstrm" >"$dir/out" && cmp "$dir/want" "$dir/out"
}

check 'a bad payload is passed over in quiet lines' \
    prints p02-missing-message-type 1 "$good$good"
check 'a payload without message has a quiet line of its own' \
    prints p18-message-as-varint 0 "$good[no Message]
$good"

holds() { # CASE TEXT...: the middle frame's line holds each text
    "$careful" --exact -r "$bad/$1.fstrm" | grep '^{"frame": 1,' >"$dir/out"
    shift
    for text; do
        grep -q -F "$text" "$dir/out" || { echo "no $text"; return 1; }
    done
}

check 'a payload without message has no message in JSON' \
    holds p18-message-as-varint '"identity": "6964", "type": "MESSAGE"}'
check 'policies come out, unknown numbers as such' holds p58-policy-unknown-values \
    '"policy": {"type": "RPZ", "rule": "0362616400", "action": 77, "match": 88, "value": "0102"}'
check 'unknown enumerated values come out as numbers' \
    holds p08-socket-family-9 '"socket_family": 9, '
check 'HTTP versions have names' holds p62-http-protocol-2 '"http_protocol": "HTTP2"}'
check 'DOQ has its name' holds p64-doq-protocol '"socket_protocol": "DOQ"'
# An empty identity, and a policy whose type is a, a quote, a backslash, u umlaut, 0xff and 0x01.
text_is_escaped() {
    {
        head -c 42 "$data/kdig-3.2.6-tool.fstrm"
        printf '\0\0\0\23\12\0r\15\10\5z\11\12\7a"\134\303\274\377\1x\1'
        printf '\0\0\0\0\0\0\0\4\0\0\0\3'
    } >"$dir/in"
    printf '%s"a\\"\\\\\303\274\\udcff\\u0001"}}, "type": "MESSAGE"}\n' \
        '{"frame": 0, "frame_len": 19, "identity": "", "message": {"type": "CLIENT_QUERY", '\
'"policy": {"type": ' >"$dir/want"
    "$careful" --exact -r "$dir/in" >"$dir/out" && cmp "$dir/want" "$dir/out"
}
check 'text is escaped as JSON, and what is not UTF-8 kept' text_is_escaped

local_time() {
    TZ=IST-5:30 "$tool" -r "$data/golang-dnstap/cq_full.tap" | grep '^17:56:40.123456 CQ '
}
check 'quiet lines have local time' local_time
check 'of a field given twice the last counts' holds p36-duplicate-scalar-last-wins \
    '"query_port": 41234,'
check 'messages given twice are merged' holds p38-duplicate-message-merge \
    '"type": "CLIENT_RESPONSE"' '"response_port": 5353' '"query_address"'

# ---- malformed, through a file ----

# What expected/CASES.md leaves open, as we have it: frames and exit status.
ours() {
    case $1 in
    f26-*|f30-*|f32-*) echo 2 0 ;; # unknown and misplaced control frames are passed over
    p04-*) echo 2 1 ;;             # another type than MESSAGE is not decoded
    p06-*|p18-*|p20-*|p22-*) echo 3 0 ;;
    esac
}

verdict() { # NAME EXPECT FRAMES: how many messages come out, and the exit status
    case $2 in
    ok|eof) echo "$3" 0 ;;
    error) echo "$3" 1 ;;
    accept*|merge|semantic) echo 3 0 ;;
    reject) echo 2 1 ;;
    *) ours "$1" ;;
    esac
}

verdict_is() { # FILE FRAMES STATUS: and what is good in it comes out as such
    exits "$3" "$careful" --exact -r "$1" >"$dir/out" || return 1
    [ "$(grep -c . "$dir/out")" = "$2" ] || { cat "$dir/out"; return 1; }
    case $1 in
    */p*) [ "$(grep -c -e '^{"frame": 0, "frame_len": 88, ' -e '^{"frame": 2, "frame_len": 88, ' \
        "$dir/out")" = 2 ] ;;
    esac
}

sed -n 's/^| \([fp][0-9]*-[^|]*\)\.fstrm | \([a-z-]*\) | \([0-9]*\) |.*/\1 \2 \3/p' \
    "$bad/CASES.md" >"$dir/cases"
while read -r name expect frames; do
    set -- $(verdict "$name" "$expect" "$frames")
    check "$name: $1 messages, exit status $2" verdict_is "$bad/$name.fstrm" "$1" "$2"
    case $expect in
    accept*|merge|semantic)
        check "$name: quiet lines are golang-dnstap's" quiet_equals_the_peer "$bad/$name.fstrm"
        ;;
    esac
done <"$dir/cases"
check 'every malformed file was tried' \
    [ "$(grep -c . "$dir/cases")" = "$(find "$bad" -name '*.fstrm' | grep -c .)" ]

# ---- sockets ----

# start FLAGS...: starts $listener in the background and waits until it listens
listener=$tool
start() {
    rm -f "$dir/out" "$dir/err"
    background "$listener" "$@" >"$dir/out" 2>"$dir/err"
    wait_for 10 eval 'grep -q listening "$dir/err" || ! kill -0 $pid' &&
        grep listening "$dir/err" || { cat "$dir/err"; return 1; }
}

stop() { # STATUS: ends what start has started
    kill "$pid"
    exits "$1" wait "$pid"
}

accept=000000000000002200000001000000010000001670726f746f6275663a646e737461702e446e73746170
finish=000000000000000400000005

answers() { # CASE MESSAGES STATUS ANSWER: what a producer's bytes are answered with
    start -u "$dir/sock" --exact || return 1
    answer=$("$feed" "$dir/sock" "$bad/$1.c2s") && stop "$3" || { cat "$dir/err"; return 1; }
    [ "$answer" = "$4 closed" ] || { echo "answered $answer"; return 1; }
    [ "$(grep -c . "$dir/out")" = "$2" ] || { cat "$dir/out"; return 1; }
}

listener=$careful
check 'h00: a good producer is served' answers h00-good 1 0 $accept$finish
check 'h02: another content type is refused' answers h02-ready-wrong-ctype 0 1 ''
check 'h04: ours is found among many content types' answers h04-ready-many-ctypes 1 0 $accept$finish
check 'h06: STOP first is refused' answers h06-stop-first 0 1 ''
check 'h08: READY twice is refused' answers h08-ready-twice 0 1 ''
check 'h10: ACCEPT from a producer is refused' answers h10-accept-from-producer 0 1 ''
check 'h12: a stream without messages is served' \
    answers h12-ready-start-stop-only 0 0 $accept$finish
check 'h14: what follows STOP is not read' answers h14-data-after-stop 1 0 $accept$finish
listener=$tool

closed() { [ "$(grep -c 'connection [0-9]*: closed' "$dir/err")" -ge "$1" ]; }

stores() { # FILE COMMAND...: what the command sends ends up as a copy of FILE
    file=$1
    shift
    "$@" && wait_for 20 closed 1 && stop 0 && cmp "$file" "$dir/copy"
}

type=protobuf:dnstap.Dnstap
large=$data/unbound-1.17.1-large.fstrm
over_unix() { start -u "$dir/sock" -w "$dir/copy" && stores "$large" "$@" -u "$dir/sock"; }
check 'a stream from fstrm_replay over unix is stored as it is' \
    over_unix fstrm_replay -t $type -r "$large"

start_tcp() { # FLAGS...: on a free port, which is put into $port
    new_port
    start -l "127.0.0.1:$port" "$@"
}

over_tcp() {
    start_tcp -w "$dir/copy" &&
        stores "$large" fstrm_replay -t $type -r "$large" -a 127.0.0.1 -p "$port"
}
check 'a stream from fstrm_replay over TCP is stored as it is' over_tcp

from_go() { # FLAG: golang-dnstap relays for ever, so it is ended when all has come
    file=$data/knot-3.2.6-auth.fstrm
    case $1 in
    -U) start -u "$dir/sock" --exact && set -- -U "$dir/sock" ;;
    -T) start_tcp --exact && set -- -T "127.0.0.1:$port" ;;
    esac
    [ $# = 2 ] || return 1
    listening=$pid
    background dnstap -r "$file" "$@"
    peer=$pid pid=$listening
    expected knot-3.2.6-auth >"$dir/want"
    wait_for 20 cmp "$dir/want" "$dir/out"
    came=$?
    kill $peer 2>/dev/null
    wait $peer 2>/dev/null
    stop 0 && [ $came = 0 ]
}
check "golang-dnstap relays to us over unix" from_go -U
check "golang-dnstap relays to us over TCP" from_go -T

both_at_once() {
    knot=$data/knot-3.2.6-auth.fstrm kdig=$data/kdig-3.2.6-tool.fstrm
    start_tcp -u "$dir/sock" -r "$kdig" --exact &&
        fstrm_replay -t $type -r "$knot" -u "$dir/sock" &&
        fstrm_replay -t $type -r "$knot" -a 127.0.0.1 -p "$port" &&
        wait_for 20 closed 2 && stop 0 &&
        { expected kdig-3.2.6-tool; expected knot-3.2.6-auth; expected knot-3.2.6-auth; } |
        sort >"$dir/want" && sort "$dir/out" | cmp "$dir/want" -
}
check 'file, unix and TCP are read at once' both_at_once

# ---- signals ----

grown() { [ "$(wc -c <"$1")" -gt 42 ]; }

# A producer that stays, in the middle of a frame: the file has whole frames and STOP.
ends_whole() { # SIGNAL
    raw=$data/raw/unbound-1.17.1-resolver.0.c2s.raw file=$data/unbound-1.17.1-resolver.fstrm
    start -u "$dir/sock" -w "$dir/copy" || return 1
    "$feed" "$dir/sock" "$raw" 50000 >/dev/null &
    peer=$!
    wait_for 10 grown "$dir/copy"
    kill -"$1" $pid
    exits 0 wait $pid && wait $peer
    size=$(($(wc -c <"$dir/copy") - 12))
    head -c $size "$dir/copy" | cmp -n $size - "$file" || return 1
    [ "$(tail -c 12 "$dir/copy" | od -An -tx1 | tr -d ' \n')" = 000000000000000400000003 ] &&
        dnstap-read "$dir/copy" >"$dir/read" && "$tool" -q -r "$dir/copy" >"$dir/out" &&
        [ "$(grep -c . "$dir/read")" -gt 100 ] &&
        [ "$(grep -c . "$dir/read")" = "$(grep -c . "$dir/out")" ]
}
check 'SIGTERM in the middle of a frame leaves a whole file' ends_whole TERM
check 'SIGINT in the middle of a frame leaves a whole file' ends_whole INT

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
check 'what was sent before SIGTERM still comes out' delivers_at_the_end
check 'a message shows while the tool runs' shows_at_once

# ---- files ----

copies() {
    "$tool" -r "$1" -w "$dir/copy" && cmp "$1" "$dir/copy"
}
check 'a copied file is the same file' copies "$large"
check 'a file of ours is written over' copies "$data/dnsdist-1.7.3.fstrm"

refuses() { # FILE: to write over it
    cp "$1" "$dir/kept"
    exits 1 "$tool" -r "$large" -w "$dir/kept" && cmp "$1" "$dir/kept"
}
check 'a file that is not Frame Streams is not written over' refuses "$data/README.md"
check 'an input is not written over' eval 'cp "$large" "$dir/kept" &&
    exits 1 "$tool" -r "$dir/kept" -w "$dir/kept" && cmp "$large" "$dir/kept"'
check 'nothing is written when an input does not open' eval 'cp "$large" "$dir/kept" &&
    exits 1 "$tool" -r "$dir/none" -w "$dir/kept" && cmp "$large" "$dir/kept"'
check 'several files come out in their order' eval '
    { expected unbound-1.17.1-large; expected knot-3.2.6-auth; } >"$dir/want"
    "$tool" --exact -r "$large" -r "$data/knot-3.2.6-auth.fstrm" | cmp "$dir/want" -'
check 'standard input is read as /dev/stdin' eval '
    expected knot-3.2.6-auth >"$dir/want"
    "$tool" --exact -r /dev/stdin <"$data/knot-3.2.6-auth.fstrm" | cmp "$dir/want" - &&
    cat "$data/knot-3.2.6-auth.fstrm" | "$tool" --exact -r /dev/stdin | cmp "$dir/want" -'
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
check 'a pipe is read as it fills, and SIGTERM ends it' reads_pipe
check 'a full disk ends the tool with status 1' exits 1 "$tool" -r "$large" -w /dev/full
check 'a closed pipe ends the tool with status 1' eval '
    { exits 1 "$tool" -r "$large" 2>"$dir/err"; echo $? >"$dir/status"; } | head -n 1 &&
    wait_for 5 grep -q 0 "$dir/status" && grep -q "^dnstap: standard output: " "$dir/err"'

# ---- flags ----

says() { # STATUS TEXT FLAGS...: on standard error
    want=$1 text=$2
    shift 2
    exits "$want" "$tool" "$@" 2>"$dir/err" >/dev/null &&
        grep -q -F -e "dnstap: $text" "$dir/err" || { cat "$dir/err"; return 1; }
}
check 'without input usage is wrong' says 2 'no input: ' -q
check 'an unknown flag is wrong usage' says 2 '-z: no such flag' -z
check 'a stray argument is wrong usage' says 2 'stray: not a flag' -r "$large" stray
check 'a dash alone is a stray argument' says 2 '-: ' -r "$large" -
check 'a flag without its value is wrong usage' says 2 '-r: needs a value' -r
check 'two formats are wrong usage' says 2 '--exact: one format is enough' -q --exact -r "$large"
check 'a boolean is true or false' says 2 '-q=perhaps: ' -q=perhaps -r "$large"
check 'a missing file is reported' says 1 "$dir/none: open: No such file" -r "$dir/none"
check 'a socket in a missing folder is reported' says 1 "unix://$dir/none/sock: listen: " \
    -u "$dir/none/sock"
check 'an address without port is reported' says 1 'tcp://127.0.0.1: no port' -l 127.0.0.1
check 'a bad frame is reported with its place' says 1 \
    "$bad/p00-one-byte-frame.fstrm: frame 1: payload is not dnstap" \
    -r "$bad/p00-one-byte-frame.fstrm"
check 'an end without STOP is reported, and no failure' says 0 \
    "$data/golang-dnstap/nostop.tap: ends without STOP" -r "$data/golang-dnstap/nostop.tap"
check 'an end inside a frame is reported, and no failure' says 0 \
    "$data/golang-dnstap/trunc.tap: ends inside a frame" -r "$data/golang-dnstap/trunc.tap"

flag_forms_agree() {
    expected kdig-3.2.6-tool >"$dir/want"
    file=$data/kdig-3.2.6-tool.fstrm
    "$tool" -r "$file" -exact | cmp "$dir/want" - && "$tool" --r="$file" --exact=true -q=false |
        cmp "$dir/want" - && "$tool" -r="$file" --exact=1 -w=- | cmp "$dir/want" -
}
check 'flags are read as Go reads them' flag_forms_agree
check 'the version is told' eval '[ "$("$tool" --version)" = "dnstap $(
    sed -n "s/^#define DNSTAP_VERSION \"\(.*\)\"/\1/p" dnstap.h)" ]'
check 'help fits a screen' eval '"$tool" -h >"$dir/out" && "$tool" --help | cmp "$dir/out" - &&
    [ "$(wc -l <"$dir/out")" -le 24 ] && ! grep -E "^.{81}" "$dir/out"'

finish
