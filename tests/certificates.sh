# Certificates by openssl, for sourcing in the folder where they are to be: files NAME.key and
# NAME.pem.
printf '[req]\ndistinguished_name = dn\n[dn]\n' >openssl.cnf
export OPENSSL_CONF=$PWD/openssl.cnf

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
