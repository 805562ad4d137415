# Helpers of the TLS suites, for sourcing: certificates, openssl and tls_peer as each other's peers.
# Each case prints "ok - NAME", or what was wrong and "not ok - NAME".
. "$(dirname "$0")/../harness.sh"
chained=yes
: "${TLS_PEER:=$build/tls_peer}"
built tls_peer || exit 1
top=$PWD
cd "$dir" || exit 1
printf '[req]\ndistinguished_name = dn\n[dn]\n' >openssl.cnf
export OPENSSL_CONF=$dir/openssl.cnf
unset SSL_CERT_FILE FAKE_TIME
now=$(date +%s)
day=86400

# ---- certificates: files NAME.key and NAME.pem ----

# key NAME KIND: rsa:BITS, rsa:BITS:PRIMES, or a curve
key() {
    case $2 in
    rsa:*:*) set -- "$1" RSA "rsa_keygen_bits:$(echo "$2" | cut -d: -f2)" \
        "rsa_keygen_primes:${2##*:}" ;;
    rsa:*) set -- "$1" RSA "rsa_keygen_bits:${2#rsa:}" rsa_keygen_primes:2 ;;
    ed25519) set -- "$1" ED25519 ;;
    *) set -- "$1" EC "ec_paramgen_curve:$2" ec_param_enc:named_curve ;;
    esac
    openssl genpkey -algorithm "$2" ${3:+-pkeyopt "$3" -pkeyopt "$4"} -out "$1.key" 2>/dev/null
}

# sign NAME ISSUER SUBJECT [EXTENSION...]: a certificate for NAME.key; ISSUER = NAME: by itself.
# An extension that begins with '-' is an option of openssl req.
sign() {
    name=$1 issuer=$2 subject=$3
    shift 3
    options=
    for extension; do
        case $extension in
        -*) options="$options $extension" ;;
        *) options="$options -addext $extension" ;;
        esac
    done
    case $options in *-days*) ;; *) options="$options -days 100" ;; esac
    [ "$issuer" = "$name" ] || options="$options -CA $issuer.pem -CAkey $issuer.key"
    # shellcheck disable=SC2086
    openssl req -x509 -new -key "$name.key" -subj "$subject" $options -out "$name.pem" \
        2>"$name.err" || cat "$name.err"
}

ca() { # ca NAME [ISSUER]
    key "$1" P-256
    sign "$1" "${2:-$1}" "/CN=$1" basicConstraints=critical,CA:TRUE keyUsage=keyCertSign,cRLSign \
        '-days 3650'
}

# leaf NAME [EXTENSION...]: P-256, by ca, for server.test
leaf() {
    name=$1
    shift
    key "$name" P-256
    sign "$name" ca /CN=server.test "${@:-subjectAltName=DNS:server.test}"
}

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
