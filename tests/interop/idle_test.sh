#!/bin/sh
# An idle process with a connected tap hardly makes a system call: at most 12 in 10 s, counted by
# strace, with the tap's own thread and in an own loop.
# usage: tests/interop/idle_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
seconds=10 most=12

built idle dnstap || exit 1
if ! strace -f -o "$dir/trace" true 2>/dev/null; then
    skip 'an idle tap hardly makes a system call' 'strace is missing or may not trace'
    finish
fi

background "$build/dnstap" -u "$dir/sock" >"$dir/collected" 2>&1
wait_for 10 [ -S "$dir/sock" ] || { not_ok 'the collector listens' && finish; }

# idle MODE: both modes at once, each traced on its own
idle() {
    strace -f -o "$dir/trace.$1" "$build/idle" "unix://$dir/sock" "$1" $seconds >"$dir/log.$1" 2>&1
    echo $? >"$dir/status.$1"
}
idle thread &
threaded=$!
idle loop
wait $threaded

for mode in thread loop; do
    name="a tap with its own $mode makes at most $most system calls in $seconds s"
    sed -n '/write(1, "idle/,/write(1, "over/p' "$dir/trace.$mode" | sed '1d;$d' |
        grep -v -E 'resumed>|\+\+\+|---' >"$dir/calls"
    count=$(wc -l <"$dir/calls")
    if [ "$(cat "$dir/status.$mode")" != 0 ] || ! grep -q over "$dir/log.$mode"; then
        cat "$dir/log.$mode"
        tail -n 20 "$dir/trace.$mode"
        not_ok "$name"
    elif [ "$count" -le $most ]; then
        echo "# $mode: $count system calls"
        ok "$name"
    else
        head -n 30 "$dir/calls"
        echo "# $mode: $count system calls"
        not_ok "$name"
    fi
done
finish
