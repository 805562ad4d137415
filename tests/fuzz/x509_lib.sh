# BearSSL under AddressSanitizer, and the chains to mutate: for x509_test.sh.
sanitize='-fsanitize=address -fno-omit-frame-pointer'

# Builds $library from $source, once: what reads certificates and keys, and what computes with them.
# The rest comes from the library that is installed.
bearssl_asan() {
    source=$(tests/get-source bearssl 2>/dev/null | tail -n 1)
    [ -d "$source/src" ] || return 1
    objects=$build/bearssl-asan
    library=$objects/libbearssl.a
    [ ! -f "$library" ] || return 0
    mkdir -p "$objects"
    # shellcheck disable=SC2086
    find "$source/src/x509" "$source/src/codec" "$source/src/rsa" "$source/src/ec" \
        "$source/src/int" -name '*.c' | xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 24 sh -c '
        cd "$0" && shift 0 && exec '"${CC:-cc}"' -O1 -g -w '"$sanitize"' -I"'"$source"'/inc" \
            -I"'"$source"'/src" -c "$@"' "$objects" || return 1
    ar rcs "$library.new" "$objects"/*.o && mv "$library.new" "$library" && rm -f "$objects"/*.o
}

make_chains() (
    cd "$1" || return 1
    printf '[req]\ndistinguished_name = dn\n[dn]\n' >cnf
    export OPENSSL_CONF="$PWD/cnf"
    exec 2>err
    ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30'
    rsa='-newkey rsa:2048 -nodes -days 30'
    ours='subjectAltName=DNS:server.test,IP:127.0.0.1'
    by='-CA ca.pem -CAkey ca.key'
    # shellcheck disable=SC2086
    {
        openssl req -x509 $rsa -keyout ca.key -out ca.pem -subj /CN=ca \
            -addext basicConstraints=critical,CA:TRUE &&
        openssl req -x509 $rsa $by -keyout middle.key -out middle.pem -subj /CN=middle \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign &&
        openssl req -x509 $ec $by -keyout ec.key -out good.pem -subj /CN=server.test \
            -addext $ours &&
        openssl req -x509 $rsa $by -keyout rsa.key -out rsa.pem -subj /CN=server.test \
            -addext $ours -addext keyUsage=digitalSignature -addext extendedKeyUsage=serverAuth &&
        openssl req -x509 $ec -CA middle.pem -CAkey middle.key -keyout leaf.key -out leaf.pem \
            -subj '/C=XX/O=an organisation/CN=server.test' -addext $ours &&
        cat leaf.pem middle.pem >chain.pem &&
        openssl req -x509 $ec $by -keyout x.key -out name.pem -subj /CN=server.test &&
        openssl req -x509 $ec $by -keyout x.key -out address.pem -subj /CN=x \
            -addext 'subjectAltName=IP:127.0.0.1,IP:::1,DNS:server.test,email:a@b,URI:x:y' \
            -addext certificatePolicies=1.2.3.4 &&
        openssl req -x509 $ec $by -keyout x.key -out many.pem -subj /CN=x -addext \
            "subjectAltName=DNS:server.test$(seq -f ',DNS:name-number-%g.example' -s '' 300)" &&
        openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:8192 \
            -pkeyopt rsa_keygen_primes:5 -out huge.key &&
        openssl req -x509 -key huge.key $by -out huge.pem -subj /CN=server.test -addext $ours &&
        openssl pkey -in ec.key -outform DER -out ec.der &&
        openssl pkey -in rsa.key -outform DER -out rsa.der &&
        openssl rsa -in rsa.key -traditional -outform DER -out pkcs1.der &&
        openssl ec -in ec.key -outform DER -out sec1.der
    } || { cat err >&1; return 1; }
)
