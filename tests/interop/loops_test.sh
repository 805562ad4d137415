#!/bin/sh
# The loop_*.c examples: a tap in the loops of poll, epoll, libevent and libuv. Each logs to a real
# sink and ends without a message or a byte lost.
# usage: tests/interop/loops_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
queries=300

built dnstap dns_peer || exit 1
valgrind='valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=all
    --errors-for-leak-kinds=all'
absent=$(missing valgrind fstrm_capture)

collect() { # NAME: what reads the tap's socket, into NAME.fstrm
    if [ "$1" = fstrm_capture ]; then
        background fstrm_capture -t protobuf:dnstap.Dnstap -u "$dir/sock" -w "$dir/got.fstrm"
    else
        background "$build/dnstap" -u "$dir/sock" -w "$dir/got.fstrm"
    fi
    collector=$pid
    wait_for 10 [ -S "$dir/sock" ]
}

answers() { "$build/dns_peer" load "$port" 1; }

# Every query and every response is there, once, and in order.
complete() { # QUERIES
    "$build/dnstap" -q -r "$dir/got.fstrm" 2>/dev/null | awk '{ print $2, $5, $6 }' >"$dir/lines"
    [ "$(wc -l <"$dir/lines")" = $((2 * $1)) ] || {
        echo "$(wc -l <"$dir/lines") messages, not $((2 * $1))"
        return 1
    }
    awk 'NR % 2 { query = $3; if ($1 != "CQ") exit 1; next } $1 != "CR" || $3 != query { exit 1 }' \
        "$dir/lines"
}

loop() { # NAME COLLECTOR
    built "loop_$1" && rm -f "$dir/sock" "$dir/got.fstrm" && collect "$2" || return 1
    new_port
    # shellcheck disable=SC2086 # options
    background $valgrind "$build/loop_$1" "unix://$dir/sock" "$port" $((queries + 1))
    server=$pid
    wait_for 20 answers && "$build/dns_peer" load "$port" $queries || return 1
    wait $server || { echo "loop_$1 ended with $?" && return 1; }
    kill $collector && wait $collector
    complete $((queries + 1))
}

# It ends by a signal likewise, with what is queued delivered.
ends_by() { # NAME SIGNAL
    built "loop_$1" && rm -f "$dir/sock" "$dir/got.fstrm" && collect dnstap || return 1
    new_port
    background "$build/loop_$1" "unix://$dir/sock" "$port"
    server=$pid
    wait_for 20 answers && "$build/dns_peer" load "$port" $queries || return 1
    kill "-$2" $server && wait $server || { echo "loop_$1 ended with $?" && return 1; }
    kill $collector && wait $collector
    complete $((queries + 1))
}

for loop in poll epoll event uv; do
    for sink in fstrm_capture; do
        name="a tap in the loop of $loop gives $sink all, and frees all"
        if [ "$absent" ]; then
            skip "$name" "$absent"
        else
            check "$name" loop $loop $sink
        fi
    done
    check "SIGTERM ends the loop of $loop with all sent" ends_by $loop TERM
done
finish
