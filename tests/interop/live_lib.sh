# What the suites of live partners share, for sourcing: servers in a folder of their own, our tool
# that listens for them, and what it must have written.
. "$(dirname "$0")/../harness.sh"
data=tests/data
type=protobuf:dnstap.Dnstap
PATH=$PATH:/usr/sbin:/sbin
export TZ=UTC

# ---- what the tests are written with ----

evidence=$dir/log
before_each() { rm -rf "${dir:?}"/*; } # each has the folder to itself
start() { # COMMAND...: in the background, its output in $dir/log; $pid is its process
    background "$@" >>"$dir/log" 2>&1
}
stop() { # [SIGNAL [PID]]: ends one, and waits for its end
    local target=${2:-$pid}
    kill "-${1:-TERM}" "$target" 2>/dev/null
    wait "$target" 2>/dev/null
    return 0
}

live() { # "NAME" "PROGRAM..." FUNCTION [ARGUMENT...]: one test
    local name=$1 why
    if why=$(missing $2); then # a list of programs
        skip "$name" "$why"
    else
        shift 2
        check "$name" "$@"
    fi
}

# Two kinds of address for the same test: $tap for our tap, and the partners' own options; $sink is
# its port.
address() { # unix|tcp
    if [ "$1" = unix ]; then
        socket=$dir/s tap=unix://$dir/s
        capture=(-u "$socket") ours=(-u "$socket") theirs=(-u "$socket") relay=(-U "$socket")
    else
        new_port
        sink=$port tap=tcp://127.0.0.1:$port
        capture=(-a 127.0.0.1 -p "$port") ours=(-l "127.0.0.1:$port")
        theirs=("${ours[@]}") relay=(-T "127.0.0.1:$port")
    fi
    transport=$1
}
ready() { if [ "$transport" = unix ]; then [ -S "$socket" ]; else listens "$port"; fi; }

# ---- our tool ----

tool() { # unix|tcp FORMAT...: our tool listens, and writes $dir/out
    address "$1"
    shift
    start "$build/dnstap" "${ours[@]}" "$@" -w "$dir/out"
    collector=$pid
    wait_for 5 ready
}

# ---- servers ----

configure() { # NAME PORT UPSTREAM SINK: the configuration of a server, in $dir/NAME
    mkdir -p "$dir/knot"
    cp $data/interop/example.test.zone "$dir"
    sed -e "s|@DIR@|$dir|g" -e "s|@PORT@|$2|g" -e "s|@UPSTREAM@|$3|g" -e "s|@SINK@|$4|g" \
        "$data/interop/$1" >"$dir/$1"
}
# Copies are run, since AppArmor's rules for the installed ones forbid them our folder.
unconfined() { cp "$(command -v "$1")" "$dir/$1"; }
ask() { kdig +timeout=1 +retry=0 @127.0.0.1 -p "$@"; }
answers() { ask "$1" www.example.test | grep -q NOERROR; }

start_bind() { # SINK: authoritative, at $auth
    new_port
    auth=$port
    configure bind.conf "$auth" 0 "$1"
    unconfined named
    start "$dir/named" -g -4 -n 1 -c "$dir/bind.conf"
}
start_knot() { # SINK: authoritative, at $auth
    new_port
    auth=$port
    configure knot.conf "$auth" 0 "$1"
    start knotd -c "$dir/knot.conf"
}

unbound_sink() { # unix|tcp: where our tool listens, in Unbound's words
    [ "$1" = tcp ] || echo "dnstap-socket-path: $dir/s"
    [ "$1" = unix ] || printf '%s\n' "dnstap-ip: 127.0.0.1@$sink" 'dnstap-tls: no'
}
start_unbound() { # SINK, lines: a resolver of $auth, at $server
    new_port
    server=$port
    configure unbound.conf "$server" "$auth" SINK
    echo "$1" >"$dir/sink"
    sed -i -e "/SINK/{r $dir/sink" -e 'd}' "$dir/unbound.conf"
    sed -i 's/^dnstap-/  dnstap-/' "$dir/unbound.conf"
    unconfined unbound
    start "$dir/unbound" -d -c "$dir/unbound.conf"
}

drive() { # PORT: questions over UDP and TCP
    wait_for 10 answers "$1" || return
    ask "$1" mail.example.test A && ask "$1" +tcp txt.example.test TXT && ask "$1" no.example.test A
}
# The servers hand their messages on after up to three seconds.
logged() { # PATTERN...: lines that our tool has written, or will
    local pattern
    for pattern; do
        wait_for 6 grep -E "$pattern" "$dir/out" || { cat "$dir/out" && return 1; }
    done
}
# What a server that knows example.test must log of drive, as QUERY and RESPONSE.
logged_questions() {
    logged "^..:..:...* $1 127\.0\.0\.1 UDP [0-9]+b \"mail\.example\.test\.\" IN A$" \
        " $2 127\.0\.0\.1 UDP [0-9]+b \"mail\.example\.test\.\" IN A$" \
        " $1 127\.0\.0\.1 TCP [0-9]+b \"txt\.example\.test\.\" IN TXT$" \
        " $2 127\.0\.0\.1 TCP [0-9]+b \"txt\.example\.test\.\" IN TXT$" \
        " $1 127\.0\.0\.1 UDP [0-9]+b \"no\.example\.test\.\" IN A$"
}
tool_is_well() { # SERVER-PID: after the server's end it still serves, and ends in order
    stop TERM "$1" && kill -0 "$collector" && stop TERM "$collector"
}
