# What the suites of the tool share: its two builds, exit statuses, a tool that listens. Source it
# after the harness.
data=tests/data
bad=$data/malformed
large=$data/unbound-1.17.1-large.fstrm
type=protobuf:dnstap.Dnstap
export TZ=UTC LC_ALL=C

built dnstap careful/dnstap tap_source || exit 1
tool=$build/dnstap
careful=$build/careful/dnstap # the same under sanitizers, for what is malformed
feed=$dir/feed
${CC:-cc} -std=c99 -O1 -o "$feed" tests/tool/feed.c || exit 1

# exits STATUS COMMAND...: a status above 2 is a crash or a sanitizer's
exits() {
    want=$1
    shift
    "$@"
    got=$?
    [ $got = "$want" ] || { echo "exit status $got instead of $want"; return 1; }
}

# start FLAGS...: starts $listener in the background and waits until it listens, or connects
listener=$tool
start() {
    rm -f "$dir/out" "$dir/err" "$dir/copy"
    background "$listener" "$@" >"$dir/out" 2>"$dir/err"
    wait_for 10 eval 'grep -q -E "(listen|connect)ing$" "$dir/err" || ! kill -0 $pid' &&
        grep -E "(listen|connect)ing$" "$dir/err" || { cat "$dir/err"; return 1; }
}
start_tcp() { # FLAGS...: on a free port, which is put into $port
    new_port
    start -l "127.0.0.1:$port" "$@"
}
stop() { # STATUS: ends what start has started
    kill "$pid"
    exits "$1" wait "$pid"
}

expected() { # NAME: prints what --exact is to print
    cat "$data/expected/$1.expected.jsonl" 2>/dev/null ||
        gzip -dc "$data/expected/$1.expected.jsonl.gz"
}
says() { # STATUS TEXT FLAGS...: on standard error
    want=$1 text=$2
    shift 2
    exits "$want" "$tool" "$@" 2>"$dir/err" >/dev/null &&
        grep -q -F -e "dnstap: $text" "$dir/err" || { cat "$dir/err"; return 1; }
}
grown() { [ "$(wc -c <"$1")" -gt 42 ]; } # beyond START
