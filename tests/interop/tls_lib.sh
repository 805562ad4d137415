# Helpers of the TLS suites, for sourcing: certificates, openssl and tls_peer as each other's peers.
# Each case prints "ok - NAME", or what was wrong and "not ok - NAME".
. "$(dirname "$0")/../harness.sh"
chained=yes
: "${TLS_PEER:=$build/tls_peer}"
built tls_peer || exit 1
top=$PWD
cd "$dir" || exit 1
. "$top/tests/certificates.sh"
unset SSL_CERT_FILE FAKE_TIME
now=$(date +%s)
day=86400

# ---- peers ----

# The expected RESULT, status and name, in file.
expect() { # expect CASE FILE STATUS NAME [TEXT]
    if grep -q "^RESULT status=$3 err=[0-9]* name=$4 " "$2" &&
        { [ -z "${5:-}" ] || grep -q -- "$5" "$2"; }; then
        ok "$1"
    else
        echo "expected status=$3 name=$4 ${5:-}, but:"
        cat "$2"
        tail -n 4 other.log proxy.log 2>/dev/null
        not_ok "$1"
    fi
}

listening() { grep -q "$1" "$2" || ! kill -0 "$3"; } # or it has ended

# start_server OPTION...: openssl s_server that reverses lines; its port is $port.
start_server() {
    stop_all KILL
    new_port
    : >other.log
    background openssl s_server -accept "127.0.0.1:$port" -rev "$@" >other.log 2>&1
    wait_for 10 listening ACCEPT other.log "$pid"
    if grep -q 'in use' other.log; then start_server "$@"; fi
}

# peer_client CASE STATUS NAME TEXT OPTION...: tls_peer against the server of start_server
peer_client() {
    title=$1 status=$2 result=$3 text=$4
    shift 4
    timeout 60 "$TLS_PEER" client --connect "127.0.0.1:$port" "$@" >client.log 2>&1
    expect "$title" client.log "$status" "$result" "$text"
}

# start_peer OPTION...: tls_peer as server, once; its output goes to server.log.
start_peer() {
    stop_all KILL
    new_port
    : >server.log
    background "$TLS_PEER" server --listen "$port" "$@" >server.log 2>&1
    peer=$pid
    wait_for 10 listening LISTENING server.log "$peer"
    if grep -q 'in use' server.log; then start_peer "$@"; fi
}

# peer_server CASE STATUS NAME TEXT "SERVER OPTIONS" OPTION...: openssl s_client against tls_peer;
# with status OK a line must come back.
peer_server() {
    title=$1 status=$2 result=$3 text=$4
    # shellcheck disable=SC2086
    start_peer $5
    shift 5
    : >other.log
    (echo 'a line that comes back'; [ "$status" != OK ] || wait_for 10 grep -q back other.log) |
        timeout 20 openssl s_client -connect "127.0.0.1:$port" -quiet -no_ign_eof "$@" \
            >other.log 2>other.err
    wait "$peer"
    if [ "$status" = OK ] && ! grep -q 'a line that comes back' other.log; then
        cat other.err server.log
        not_ok "$title: nothing came back"
        return
    fi
    expect "$title" server.log "$status" "$result" "$text"
}

# What openssl's side saw of the last case.
peer_saw() {
    if wait_for 10 grep -q "$2" other.log other.err; then ok "$1"; else
        cat other.log other.err 2>/dev/null
        not_ok "$1"
    fi
}
