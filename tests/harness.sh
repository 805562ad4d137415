# What every shell suite begins with:
#     . "$(dirname "$0")/../harness.sh"
# It goes to the project's top and sets $build, the folder of what is built, and $dir, a folder of
# the suite's own, both absolute; at the end $dir is removed, and what still runs is killed.
# A test ends in ok, not_ok or skip; check does so for a command; finish is the suite's last line.
# TEST_ONLY, or the suite's second argument, is a part of the names of the tests that are wanted.

set -u
cd "$(dirname "$0")/../.." || exit 1
build=$(mkdir -p "${1:-build}" && cd "${1:-build}" && pwd) || exit 1
only=${2:-${TEST_ONLY:-}}
unset TEST_ONLY # it is not for the programs that are tested
dir=$(mktemp -d) || exit 1
passed=0 failed=0 skipped=0 pids=
trap 'stop_all KILL; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

# ---- tests ----

wanted() { case $1 in *"$only"*) ;; *) return 1 ;; esac }
ok() { # NAME
    wanted "$1" || return 0
    passed=$((passed + 1))
    echo "ok - $1"
}
not_ok() { # NAME
    wanted "$1" || return 0
    failed=$((failed + 1))
    echo "not ok - $1"
}
skip() { # NAME WHY
    wanted "$1" || return 0
    skipped=$((skipped + 1))
    echo "skip - $1: $2"
}
finish() {
    echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
    [ $failed = 0 ]
    exit
}

# A suite sets these: chained=yes where its tests build on each other, so that all of them are run
# and the wanted ones are reported; silent=yes where what prints something has failed; evidence:
# files that are shown, besides what a test has printed, when it fails; before_each: what is done
# before each.
chained= silent= evidence=
before_each() { :; }

check() { # NAME COMMAND...: passed when it succeeds; what it left running ends, unless chained
    wanted "$1" || [ "$chained" ] || return 0
    title=$1
    shift
    before_each
    if "$@" >"$dir/report" 2>&1 && { [ -z "$silent" ] || [ ! -s "$dir/report" ]; }; then
        ok "$title"
    else
        # shellcheck disable=SC2086 # it may be a pattern
        ! wanted "$title" || tail -q -n 40 "$dir/report" $evidence 2>/dev/null
        ! wanted "$title" || echo "command: $*"
        not_ok "$title"
    fi
    [ "$chained" ] || stop_all
}

# ---- what a suite needs ----

built() { # NAME...: makes them in the folder of what is built
    for needed; do
        shift
        set -- "$@" "build/$needed"
    done
    ${MAKE:-make} -s "$@" >&2
}
missing() { # PROGRAM...: says which is not installed; fails when all are
    for needed; do
        command -v "$needed" >/dev/null || { echo "$needed is not installed" && return; }
    done
    false
}

# ---- processes ----

background() { # COMMAND...: its process is $pid
    "$@" &
    pid=$!
    pids="$pids $pid"
}
none_left() {
    for process in $pids; do
        ! kill -0 "$process" 2>/dev/null || return 1
    done
}
stop_all() { # [KILL]: ends what is in the background, in order, or at once
    [ "$pids" ] || return 0
    # shellcheck disable=SC2086 # a list of numbers
    {
        kill "-${1:-TERM}" $pids
        [ "${1:-}" = KILL ] || wait_for 3 none_left || kill -KILL $pids
        wait $pids
    } 2>/dev/null
    pids=
}
wait_for() { # SECONDS COMMAND...: until it succeeds
    tries=$(($1 * 50))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "in vain: $*" && return 1; }
        sleep 0.02
    done
}

# ---- ports ----

listens() { # PORT: something does, on TCP
    grep -q -E ":$(printf %04X "$1") 0+:0000 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null
}
next_port=$((12000 + $$ % 200 * 100)) # below those that the system gives to connections
new_port() { # $port: one where nothing listens
    port=$next_port
    while listens "$port"; do port=$((port + 1)); done
    next_port=$((port + 1))
}
