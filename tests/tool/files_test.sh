#!/bin/sh
# What the tool writes: files that are continued, begun anew, locked, rotated, refused, that find no
# room; standard output that nobody reads. usage: tests/tool/files_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
knot=$data/knot-3.2.6-auth.fstrm
kdig=$data/kdig-3.2.6-tool.fstrm

# Whole: read without complaint, to its STOP.
is_whole() { "$tool" -r "$1" >"$dir/read" 2>"$dir/said" && ! grep . "$dir/said"; }

# one FILE...: the streams of these files as one: the first START and the last STOP
one() {
    head -c 42 "$1"
    for file; do
        tail -c +43 "$file" | head -c -12
    done
    tail -c 12 "$1"
}

# ---- continued, or begun anew ----

check 'a copied file is the same file' eval '
    "$tool" -r "$large" -w "$dir/copy" && cmp "$large" "$dir/copy"'
# Three frames of knot's, with STOP and without, and a part of the fourth.
first_three() {
    size=$("$tool" --exact -r "$knot" | head -n 3 |
        sed 's/.*"frame_len": \([0-9]*\).*/\1/' | awk '{ n += $1 + 4 } END { print 42 + n }')
    { head -c "$size" "$knot"; tail -c 12 "$knot"; } >"$dir/three"
}
first_three
continues_stopped() {
    cp "$dir/three" "$dir/log" && "$tool" -r "$kdig" -w "$dir/log" &&
        one "$dir/three" "$kdig" | cmp - "$dir/log"
}
continues_at() { # BYTES behind the third frame
    head -c $((size + $1)) "$knot" >"$dir/log" && "$tool" -r "$kdig" -w "$dir/log" &&
        one "$dir/three" "$kdig" | cmp - "$dir/log"
}
check 'an existing file is continued, its STOP goes' continues_stopped
check 'a file without STOP is continued' continues_at 0
check 'a file that is cut is continued behind its last whole frame' continues_at 21
check 'a file with a START only is continued' eval 'head -c 42 "$knot" >"$dir/log" &&
    "$tool" -r "$kdig" -w "$dir/log" && cmp "$kdig" "$dir/log"'
check 'an empty file is begun' eval ': >"$dir/log" &&
    "$tool" -r "$kdig" -w "$dir/log" && cmp "$kdig" "$dir/log"'
check '--overwrite begins anew' eval 'cp "$knot" "$dir/log" &&
    "$tool" --overwrite -r "$kdig" -w "$dir/log" && cmp "$kdig" "$dir/log"'
text_is_continued() {
    printf 'before\n' >"$dir/log" && "$tool" -q -r "$kdig" -w "$dir/log" || return 1
    { printf 'before\n'; "$tool" -q -r "$kdig"; } | cmp - "$dir/log" &&
        "$tool" -q --overwrite -r "$kdig" -w "$dir/log" && "$tool" -q -r "$kdig" |
        cmp - "$dir/log"
}
check 'text is continued, too, and with --overwrite begun anew' text_is_continued

# ---- refused ----

refuses() { # FILE FLAG...: to write there
    cp "$1" "$dir/kept"
    file=$1
    shift
    exits 1 "$tool" -r "$large" -w "$dir/kept" "$@" && cmp "$file" "$dir/kept"
}
check 'what is not dnstap is not continued' refuses "$data/README.md"
check 'what is not dnstap is not begun anew' refuses "$data/README.md" --overwrite
check 'what has another content type is not continued' refuses "$data/golang-dnstap/wrongct.tap"
check 'text is not added to dnstap' refuses "$knot" -q
check 'an input is not written over' eval 'cp "$large" "$dir/kept" &&
    exits 1 "$tool" -r "$dir/kept" -w "$dir/kept" && cmp "$large" "$dir/kept"'
check 'standard input is not written over' eval 'cp "$large" "$dir/kept" &&
    exits 1 "$tool" -r - -w "$dir/kept" <"$dir/kept" && cmp "$large" "$dir/kept"'
check 'nothing is written when an input does not open' eval 'cp "$large" "$dir/kept" &&
    exits 1 "$tool" -r "$dir/none" -w "$dir/kept" && cmp "$large" "$dir/kept"'

# ---- the lock ----

# Taps and tools take the same one: flock(2)'s.
locked_out() { # FORMAT...
    start -u "$dir/sock" -w "$dir/copy" "$@" || return 1
    exits 1 "$tool" -r "$knot" -w "$dir/copy" "$@" 2>"$dir/err2" &&
        grep -q "$dir/copy: process $pid writes it, and must let go first" "$dir/err2" &&
        ! flock -n "$dir/copy" true && stop 0 && flock -n "$dir/copy" true
}
check 'two tools do not write one file' locked_out
check 'two tools do not write one text file' locked_out -q
taps_wait_for_tools() {
    start -u "$dir/sock" -w "$dir/copy" || return 1
    "$build/tap_source" "file://$dir/copy" 10 "$dir/want" 2>"$dir/err2" &
    source=$!
    wait_for 10 grep -q "process $pid writes it, and must let go first" "$dir/err2" &&
        stop 0 && wait "$source" && cmp "$dir/want" "$dir/copy"
}
check 'a tap waits until a tool lets its file go' taps_wait_for_tools
check 'a tool does not write a file that is locked' eval '
    cp "$knot" "$dir/kept" && exits 1 flock "$dir/kept" "$tool" -r "$kdig" -w "$dir/kept" &&
    cmp "$knot" "$dir/kept"'

# ---- no room ----

# With a limit of so many half KiB, which raises SIGXFSZ.
limited() { # BLOCKS FLAG...
    blocks=$1
    shift
    rm -f "$dir/log"
    exits 1 sh -c 'ulimit -f '"$blocks"'; exec "$@"' - "$tool" -r "$large" "$@" 2>"$dir/err" &&
        grep -q 'File too large' "$dir/err"
}
whole_frames() {
    for blocks in 1 2 3 129 130 500 2000; do
        limited $blocks -w "$dir/log" || return 1
        "$tool" --exact -r "$dir/log" >"$dir/read" 2>"$dir/said" || return 1
        ! grep -v 'ends without STOP' "$dir/said" || return 1
        expected unbound-1.17.1-large | head -n "$(grep -c . "$dir/read")" | cmp - "$dir/read" ||
            return 1
    done
    [ "$(grep -c . "$dir/read")" -gt 5000 ] # of the last
}
check 'a file that meets its limit has whole frames only' whole_frames
whole_lines() {
    limited 400 -q -w "$dir/log" && "$tool" -q -r "$large" >"$dir/want" &&
        head -n "$(grep -c . "$dir/log")" "$dir/want" | cmp - "$dir/log" &&
        [ "$(grep -c . "$dir/log")" -gt 1000 ]
}
check 'a text file that meets its limit has whole lines only' whole_lines
check 'standard output that meets its limit ends the tool with status 1' \
    eval 'limited 100 -q >"$dir/out"'

# The same on a full disk: what was there before stays, and is continued when there is room again.
on_full_disk() {
    cp "$knot" "$dir/small/log" && head -c 100000 /dev/zero >"$dir/small/ballast" || return 1
    exits 1 "$tool" -r "$large" -w "$dir/small/log" 2>"$dir/err" &&
        grep -q "$dir/small/log: write: No space left" "$dir/err" &&
        exits 0 "$tool" --exact -r "$dir/small/log" >"$dir/read" &&
        { expected knot-3.2.6-auth; expected unbound-1.17.1-large; } |
        sed 's/^{"frame": [0-9]*//' | head -n "$(grep -c . "$dir/read")" >"$dir/want" &&
        sed 's/^{"frame": [0-9]*//' "$dir/read" | cmp "$dir/want" - || return 1
    before=$(grep -c . "$dir/read")
    rm "$dir/small/ballast"
    "$tool" -r "$kdig" -w "$dir/small/log" && is_whole "$dir/small/log" &&
        [ "$(grep -c . "$dir/read")" = $((before + $("$tool" -r "$kdig" | grep -c .))) ]
}
mkdir "$dir/small"
if mount -t tmpfs -o size=256k dnstap-test "$dir/small" 2>/dev/null; then
    trap 'stop_all KILL; umount "$dir/small"; rm -rf "$dir"' EXIT
    check 'a full disk leaves whole frames, and ends the tool with status 1' on_full_disk
else
    skip 'a full disk leaves whole frames' 'tmpfs cannot be mounted here'
fi
check 'a full device ends the tool with status 1' exits 1 "$tool" -r "$large" -w /dev/full

# ---- rotation ----

holds() { [ "$("$tool" --exact -r "$1" | grep -c .)" = "$2" ]; }
sent=0
send_to() { # FILE: sends it two messages, waits until the tool has told of their producers' ends
    for i in 1 2; do
        "$feed" "$dir/sock" "$bad/h00-good.c2s" >/dev/null 2>&1
    done
    sent=$((sent + 2))
    wait_for 10 eval '[ "$(grep -c "connection [0-9]*: closed" "$dir/err")" -ge $sent ]'
}
rotates() {
    sent=0
    start -u "$dir/sock" -w "$dir/copy" && send_to && mv "$dir/copy" "$dir/old" &&
        send_to && kill -HUP $pid && wait_for 10 test -f "$dir/copy" && is_whole "$dir/old" &&
        holds "$dir/old" 4 && send_to && stop 0 && is_whole "$dir/copy" && holds "$dir/copy" 2
}
check 'SIGHUP goes on in a new file, and the old one is whole' rotates
# Nobody has moved it: nothing in it is lost.
hangs_up() { # COUNT FLAGS...
    count=$1 sent=0
    shift
    start -u "$dir/sock" "$@" && send_to && kill -HUP $pid && send_to && kill -0 $pid && stop 0
}
check 'SIGHUP without a move continues the file' eval '
    hangs_up 4 -w "$dir/copy" && is_whole "$dir/copy" && holds "$dir/copy" 4'
check 'SIGHUP without a move continues the text' eval '
    hangs_up 4 -w "$dir/copy" -q && [ "$(grep -c www "$dir/copy")" = 4 ]'
check 'SIGHUP does nothing to standard output' eval '
    hangs_up 4 -q && [ "$(grep -c www "$dir/out")" = 4 ]'

# ---- signals ----

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

# ---- nobody reads ----

check 'a closed pipe ends the tool with status 1' eval '
    { exits 1 "$tool" -r "$large" 2>"$dir/err"; echo $? >"$dir/status"; } | head -n 1 &&
    wait_for 5 grep -q 0 "$dir/status" && grep -q "^dnstap: standard output: " "$dir/err"'

sleeps() { [ "$(cut -d ' ' -f 3 "/proc/$1/stat")" = S ]; }
# A pipe that is full and stays open; the tool sleeps in its write.
one_signal_is_enough() { # SIGNAL
    rm -f "$dir/pipe"
    mkfifo "$dir/pipe" || return 1
    exec 8<>"$dir/pipe"
    background "$tool" -q -r "$large" >"$dir/pipe" 2>"$dir/err" 8<&-
    wait_for 10 sleeps $pid
    kill -"$1" $pid
    wait_for 10 eval '! kill -0 $pid'
    ended=$?
    exec 8<&-
    [ $ended = 0 ] && exits 1 wait $pid && grep -q 'standard output: nobody reads it' "$dir/err"
}
check 'one SIGINT ends a tool whose standard output blocks' one_signal_is_enough INT
check 'one SIGTERM ends a tool whose standard output blocks' one_signal_is_enough TERM

finish
