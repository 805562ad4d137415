#!/bin/sh
# The tool from outside: its formats against recorded output and against golang-dnstap's tool,
# malformed streams through file and socket, copies byte for byte, real peers over unix and TCP,
# flags. usage: tests/tool/tool_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
${CC:-cc} -std=c99 -O1 -I. -o "$dir/odd_stream" tests/tool/odd_stream.c \
    -lprotobuf-nanopb -lbearssl -lpthread || exit 1

# ---- formats ----

exact_is_as_recorded() {
    expected "$1" >"$dir/want" && "$tool" -r "$data/$1.fstrm" --exact >"$dir/out" &&
        cmp "$dir/want" "$dir/out"
}

for file in "$data"/*.fstrm; do
    name=$(basename "$file" .fstrm)
    check "every field of $name comes out exactly" exact_is_as_recorded "$name"
done

# Reading is no failure where the stream only lacks its STOP (nostop); where it is cut it is.
quiet_is_as_recorded() { # NAME STATUS
    exits "$2" "$tool" -r "$data/golang-dnstap/$1.tap" >"$dir/out" &&
        cmp "$data/golang-dnstap/$1.q.out" "$dir/out"
}

for file in "$data"/golang-dnstap/*.tap; do
    name=$(basename "$file" .tap)
    case $name in wrongct|trunc) status=1 ;; *) status=0 ;; esac
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

odd_lines_agree() { # KIND
    "$dir/odd_stream" "$1" >"$dir/odd" && "$careful" -q -r "$dir/odd" >"$dir/out" &&
        dnstap -q -r "$dir/odd" 2>"$dir/err" >"$dir/want" && cmp "$dir/want" "$dir/out" &&
        [ "$(grep -c . "$dir/out")" -ge 8000 ]
}

for kind in types classes names addresses messages; do
    check "quiet lines of odd $kind are golang-dnstap's" odd_lines_agree $kind
done

mutants_agree() {
    set --
    for file in "$data"/*.fstrm; do
        case $file in *-large.fstrm) ;; *) set -- "$@" "$file" ;; esac
    done
    "$dir/odd_stream" mutants "$@" >"$dir/odd" && "$careful" -q -r "$dir/odd" >"$dir/out" &&
        dnstap -q -r "$dir/odd" 2>"$dir/err" >"$dir/want" || return 1
    cmp "$dir/want" "$dir/out" && [ "$(grep -c . "$dir/out")" -ge 50000 ]
}
check "quiet lines of spoilt messages are golang-dnstap's" mutants_agree

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
# An empty identity, and a policy whose type is a, a quote, a backslash, u umlaut, 0xff, 0x01, DEL,
# U+009B (which begins a terminal's commands), U+202E (which turns the line round) and U+1F600.
text_is_escaped() {
    {
        head -c 42 "$data/kdig-3.2.6-tool.fstrm"
        printf '\0\0\0\55\12\0r\47\10\5z\43\12\41a"\134\303\274\377\1\177'
        printf '\302\233\342\200\256\360\237\230\200xxxxxxxxxxxxxxxx'
        printf 'x\1'
        printf '\0\0\0\0\0\0\0\4\0\0\0\3'
    } >"$dir/in"
    escaped='\u00fc\udcff\u0001\u007f\u009b\u202e\ud83d\ude00'
    printf '%s"a\\"\\\\%s%s"}}, "type": "MESSAGE"}\n' \
        '{"frame": 0, "frame_len": 45, "identity": "", "message": {"type": "CLIENT_QUERY", '\
'"policy": {"type": ' "$escaped" xxxxxxxxxxxxxxxx >"$dir/want"
    "$careful" --exact -r "$dir/in" >"$dir/out" && cmp "$dir/want" "$dir/out"
}
check 'text is escaped as JSON, and what is not UTF-8 kept' text_is_escaped

# Every character there is, as text and in a name.
obeyed_by_no_terminal() { # FORMAT
    "$dir/odd_stream" texts >"$dir/odd" && "$careful" "$1" -r "$dir/odd" >"$dir/out" &&
        [ "$(grep -c . "$dir/out")" = 34824 ] && ! grep -n -a '[^ -~]' "$dir/out"
}
for format in -q --exact; do
    check "whatever a message holds, $format prints printable ASCII" obeyed_by_no_terminal $format
done

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
    ok) echo "$3" 0 ;;
    eof) case $1 in f40-*) echo "$3" 0 ;; *) echo "$3" 1 ;; esac ;; # only f40 ends between frames
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
check 'h02: another content type is refused' answers h02-ready-wrong-ctype 0 0 ''
check 'h04: ours is found among many content types' answers h04-ready-many-ctypes 1 0 $accept$finish
check 'h06: STOP first is refused' answers h06-stop-first 0 0 ''
check 'h08: READY twice is refused' answers h08-ready-twice 0 0 ''
check 'h10: ACCEPT from a producer is refused' answers h10-accept-from-producer 0 0 ''
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

over_unix() { start -u "$dir/sock" -w "$dir/copy" && stores "$large" "$@" -u "$dir/sock"; }
check 'a stream from fstrm_replay over unix is stored as it is' \
    over_unix fstrm_replay -t $type -r "$large"

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

# ---- flags ----

check 'without input usage is wrong' says 2 'no inputs specified: ' -q
check 'an unknown flag is wrong usage' says 2 '-z: no such flag' -z
check 'a stray argument is wrong usage' says 2 'stray: not a flag' -r "$large" stray
check 'a dash alone is a stray argument' says 2 '-: ' -r "$large" -
check 'a flag without its value is wrong usage' says 2 '-r: needs a value' -r
check 'two formats are wrong usage' says 2 'formats: specify at most one' -q --exact -r "$large"
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
check 'an end inside a frame is reported, and a failure' says 1 \
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
