#!/bin/sh
# An idle process with a connected tap hardly makes a system call: at most 12 in 10 s, counted by
# strace, with the tap's own thread and in an own loop.
# usage: tests/interop/idle_test.sh [BUILD]
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build}
seconds=10 most=12
passed=0 failed=0 skipped=0
dir=$(mktemp -d) || exit 1
collector=
trap '[ -z "$collector" ] || kill "$collector" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

finish() {
    echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
    [ $failed = 0 ]
    exit
}
ok() { passed=$((passed + 1)) && echo "ok - $1"; }
not_ok() { failed=$((failed + 1)) && echo "not ok - $1"; }

${MAKE:-make} -s "$build/idle" "$build/dnstap" || exit 1
if ! strace -f -o "$dir/trace" true 2>/dev/null; then
    skipped=1
    echo "skip - an idle tap hardly makes a system call: strace is missing or may not trace"
    finish
fi

"$build/dnstap" -u "$dir/sock" >"$dir/collected" 2>&1 </dev/null &
collector=$!
tries=0
until [ -S "$dir/sock" ]; do
    tries=$((tries + 1))
    [ $tries -lt 500 ] || { not_ok 'the collector listens' && finish; }
    sleep 0.02
done

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
