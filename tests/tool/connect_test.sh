#!/bin/sh
# The tool connects to taps that listen, over unix, tcp and tls, and listens with TLS itself: what
# a tap has logged is in the file, byte for byte; taps go and come back; who is not trusted.
# usage: tests/tool/connect_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
source=$build/tap_source
top=$PWD
unset SSL_CERT_FILE
(
    cd "$dir" && . "$top/tests/certificates.sh" && ca ca && ca otherca &&
        leaf server subjectAltName=IP:127.0.0.1 && leaf named subjectAltName=DNS:tap.test &&
        leaf client && key stray P-256 &&
        sign stray otherca /CN=stray
) || exit 1
evidence="$dir/err $dir/tap.log"
server="--cert $dir/server.pem --key $dir/server.key"

told() { wait_for 10 grep -q -e "$1" "$dir/err"; }
logs() { # FLAGS... ENDPOINT COUNT: a tap that does so, to $dir/want
    timeout 60 "$source" "$@" "$dir/want" >"$dir/tap.log" 2>&1
}
arrived() { # what was logged is in the file once the tool has ended, and well
    told 'connection 1: closed' && stop 0 && cmp "$dir/want" "$dir/copy"
}

# ---- -c ----

connects() { # WHERE ENDPOINT: how the tool and the tap call it
    start -c "$1" -w "$dir/copy" && logs --listen "$2" 30000 && arrived
}
over_tcp() { # PREFIX of WHERE
    new_port
    connects "${1}127.0.0.1:$port" "tcp://127.0.0.1:$port"
}
check '-c unix://PATH stores what a tap logs' connects "unix://$dir/tap" "unix://$dir/tap"
check '-c PATH stores what a tap logs' connects "$dir/tap" "unix://$dir/tap"
check '-c tcp://HOST:PORT stores what a tap logs' over_tcp tcp://
check '-c HOST:PORT stores what a tap logs' over_tcp ''
check '-c tcp://localhost:PORT looks the name up' eval 'new_port
    connects "tcp://localhost:$port" "tcp://127.0.0.1:$port"'
check '-c @NAME connects without a file' connects "unix://@tap-$$" "unix://@tap-$$"

# The tap of the specification's last example logs to all: a file, a collector, and us.
prints() {
    start -c "unix://$dir/tap" -c "unix://$dir/other" -q &&
        logs --listen "unix://$dir/tap" 40 && wait_for 10 eval '[ "$(wc -l <"$dir/out")" = 40 ]' &&
        logs --listen "unix://$dir/other" 2 && wait_for 10 eval '[ "$(wc -l <"$dir/out")" = 42 ]' &&
        stop 0
}
check 'several taps are connected to at once' prints

taps_come_and_go() {
    start -c "unix://$dir/tap" -w "$dir/copy" && told 'connect: No such file or directory' ||
        return 1
    for tap in 1 2 3; do
        logs --listen "unix://$dir/tap" 100 && told "connection $tap: opened" &&
            told "connection $tap: closed" || return 1
        cp "$dir/want" "$dir/want.$tap"
    done
    told 'connection 1: opened, connected after [0-9]* failed attempts' && stop 0 || return 1
    "$tool" -q -r "$dir/want.1" -r "$dir/want.2" -r "$dir/want.3" >"$dir/all" &&
        "$tool" -q -r "$dir/copy" | cmp "$dir/all" -
}
check 'taps come and go' taps_come_and_go
is_killed() { # a tap, in the middle: it is told of, the file is whole, and the next one is found
    start -c "unix://$dir/tap" -w "$dir/copy" || return 1
    background "$source" --listen "unix://$dir/tap" 3000000 2>"$dir/tap.log"
    wait_for 10 grown "$dir/copy" && kill -KILL "$pid"
    set -- $pids
    pid=$1
    told 'connection 1: ends' && logs --listen "unix://$dir/tap" 3 &&
        told 'connection 2: closed' && stop 0 && "$tool" -q -r "$dir/copy" >"$dir/all" &&
        [ "$(wc -l <"$dir/all")" -gt 3 ]
}
check 'a tap that is killed leaves a whole file' is_killed

# ---- TLS ----

over_tls() { # "FLAGS of the tap" FLAGS...
    new_port
    tap="$1 tls://127.0.0.1:$port"
    shift
    start -c "tls://127.0.0.1:$port" "$@" -w "$dir/copy" || return 1
    # shellcheck disable=SC2086
    logs --listen $tap 30000 && arrived
}
named="--cert $dir/named.pem --key $dir/named.key"
check '-c tls:// verifies by --tls-ca' over_tls "$server" --tls-ca "$dir/ca.pem"
check '-c tls:// verifies by the system without' eval '
    export SSL_CERT_FILE=$dir/ca.pem; over_tls "$server"; result=$?
    unset SSL_CERT_FILE; [ $result = 0 ]'
check '-c tls:// shows --tls-cert' over_tls "$server --ca $dir/ca.pem" --tls-ca "$dir/ca.pem" \
    --tls-cert "$dir/client.pem" --tls-key "$dir/client.key"
check '-c tls:// verifies --tls-name' over_tls "$named" --tls-ca "$dir/ca.pem" --tls-name tap.test
check '-c tls:// verifies nothing with --tls-insecure' over_tls "$named" --tls-insecure

refuses() { # TEXT "FLAGS of the tap" FLAGS...: which the tool says of the attempt
    new_port
    text=$1 tap="$2 tls://127.0.0.1:$port"
    shift 2
    # shellcheck disable=SC2086
    background "$source" --listen $tap 10 2>"$dir/tap.log"
    wait_for 10 listens "$port" && start -c "tls://127.0.0.1:$port" "$@" -w "$dir/copy" &&
        told "dnstap: tls://127.0.0.1:$port: .*$text" && stop 0 &&
        [ -z "$("$tool" -q -r "$dir/copy")" ]
}
check '-c tls:// takes nothing from a tap of another CA' \
    refuses 'certificate is of no CA in' "$server" --tls-ca "$dir/otherca.pem"
check '-c tls:// takes nothing from a tap of another name' \
    refuses 'not for the address "127.0.0.1"' "$named" --tls-ca "$dir/ca.pem"
check '-c tls:// is told that a tap wants a certificate' \
    refuses 'certificate' "$server --ca $dir/ca.pem" --tls-ca "$dir/ca.pem"
check '-c tls:// is told that a tap wants another certificate' \
    refuses "does not know our certificate's CA" "$server --ca $dir/ca.pem" \
    --tls-ca "$dir/ca.pem" --tls-cert "$dir/stray.pem" --tls-key "$dir/stray.key"

# ---- -l tls:// ----

listens_with() { # "FLAGS of the tap" FLAGS...
    new_port
    tap="$1 --ca $dir/ca.pem tls://127.0.0.1:$port"
    shift
    start -l "tls://127.0.0.1:$port" --tls-cert "$dir/server.pem" --tls-key "$dir/server.key" \
        "$@" -w "$dir/copy" || return 1
    # shellcheck disable=SC2086
    logs $tap 30000
}
check '-l tls:// stores what a tap logs' eval 'listens_with "" && arrived'
check '-l tls:// takes those whose certificate is of --tls-ca' eval '
    listens_with "--cert $dir/client.pem --key $dir/client.key" --tls-ca "$dir/ca.pem" && arrived'
takes_no_other() {
    new_port
    start -l "tls://127.0.0.1:$port" --tls-cert "$dir/server.pem" --tls-key "$dir/server.key" \
        --tls-ca "$dir/ca.pem" -w "$dir/copy" || return 1
    for who in '' "--cert $dir/stray.pem --key $dir/stray.key"; do
        # shellcheck disable=SC2086
        background "$source" $who --ca "$dir/ca.pem" "tls://127.0.0.1:$port" 1 2>"$dir/tap.log"
    done
    told 'client showed no certificate' && told 'client.s certificate is of no CA' &&
        ! grown "$dir/copy"
}
check '-l tls:// takes no other' takes_no_other
check '-l unix://PATH listens' eval '
    start -l "unix://$dir/sock" -w "$dir/copy" && logs "unix://$dir/sock" 300 && arrived'

# ---- usage ----

check '-c of a file is refused' says 1 'file:///tmp/f: a file is read; connect to' -c file:///tmp/f
check '-c without a port is refused' says 1 'tcp://localhost: no port' -c localhost
check '-l tls:// without a certificate is refused' \
    says 1 'tls://127.0.0.1:1: a server needs a certificate' -l tls://127.0.0.1:1
check 'a certificate that is not there is told' \
    says 1 "$dir/none.pem" -c tls://127.0.0.1:1 --tls-ca "$dir/none.pem"
check 'flags of TLS without TLS are usage' \
    says 2 'TLS: no input or output is tls://' -c tcp://127.0.0.1:1 --tls-ca "$dir/ca.pem"
finish
