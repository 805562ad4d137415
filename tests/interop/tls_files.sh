# The cases of keys and PEM files: a part of tls_client_test.sh, whose server is running.
given() { # given CASE STATUS NAME TEXT CERT KEY
    peer_client "$1" "$2" "$3" "$4" $named --cert "$5" --key "$6"
}
config 'a key without certificate' 'LOCAL_[0-9]*' 'options.cert_file' $named --key client.key
config 'a certificate without key' 'LOCAL_[0-9]*' 'options.key_file' $named --cert client.pem
given 'the key of another certificate' CONFIG LOCAL_2 'is not that of the first certificate' \
    client.pem stranger.key
given 'the RSA key of another certificate' CONFIG LOCAL_2 'not that of' clientrsa.pem rsa.key
given 'a key of another kind' CONFIG LOCAL_2 'not that of' client.pem rsa.key
given 'another curve' CONFIG LOCAL_2 'not that of' client.pem kinds.key

serve good -Verify 3 -CAfile ca.pem -verify_return_error
openssl rsa -in clientrsa.key -traditional -out pkcs1.key 2>/dev/null
given 'a key in PKCS#1' OK BR_ERR_OK '' clientrsa.pem pkcs1.key
given 'an RSA key in PKCS#8' OK BR_ERR_OK '' clientrsa.pem clientrsa.key
given 'an EC key in PKCS#8' OK BR_ERR_OK '' client.pem client.key
openssl ec -in client.key -out sec1.key 2>/dev/null
given 'a key in SEC1' OK BR_ERR_OK '' client.pem sec1.key
(openssl ecparam -name prime256v1 && cat sec1.key) >parameters.key
given 'EC PARAMETERS before it' OK BR_ERR_OK '' client.pem parameters.key
openssl pkcs8 -topk8 -in client.key -passout pass:secret -out encrypted.key
given 'an encrypted key, PKCS#8' CONFIG LOCAL_3 'encrypted.key: .*encrypted' \
    client.pem encrypted.key
openssl rsa -in clientrsa.key -aes128 -traditional -passout pass:secret -out dek.key 2>/dev/null
given 'an encrypted key of the old form' CONFIG LOCAL_5 'passphrase' clientrsa.pem dek.key
given 'an Ed25519 key' CONFIG LOCAL_5 'P-256' client.pem edwards.key
given 'an RSA-8192 key' CONFIG LOCAL_5 'RSA up to 4096' huge.pem huge.key
given 'an RSA-8192 certificate' CONFIG LOCAL_5 'RSA up to 4096' huge.pem clientrsa.key
openssl pkey -in client.key -outform DER -out client.key.der
openssl x509 -in client.pem -outform DER -out client.der
given 'key and certificate in DER' OK BR_ERR_OK '' client.der client.key.der
cat client.pem client.key >both.pem
given 'key and certificate in one file' OK BR_ERR_OK '' both.pem both.pem
given 'a certificate in place of the key' CONFIG LOCAL_4 'no private key' client.pem client.pem
given 'a key in place of the certificate' CONFIG LOCAL_4 'no certificate' client.key client.key
given 'a key file that is not there' CONFIG 'LOCAL_[0-9]*' 'nosuch: can.t open' client.pem nosuch

sed 's/$/\r/' client.pem >crlf.pem
sed 's/$/\r/' client.key >crlf.key
given 'lines that end in CR LF' OK BR_ERR_OK '' crlf.pem crlf.key
printf %s "$(cat client.pem)" >nonewline.pem
printf %s "$(cat client.key)" >nonewline.key
given 'no final newline' OK BR_ERR_OK '' nonewline.pem nonewline.key
openssl pkcs12 -export -in client.pem -inkey client.key -name friendly -passout pass: -out bag.p12
openssl pkcs12 -in bag.p12 -nodes -passin pass: -out bag.pem 2>/dev/null
given 'bag attributes' OK BR_ERR_OK '' bag.pem bag.pem
(openssl x509 -in client.pem -text && echo trailing text) >text.pem
given 'text around it' OK BR_ERR_OK '' text.pem client.key
head -c 500 client.pem >cut.pem
given 'a certificate cut off' CONFIG LOCAL_5 'cut.pem: certificate is malformed or cut off' \
    cut.pem client.key
head -c 150 client.key >cut.key
given 'a key cut off' CONFIG LOCAL_5 'cut.key: private key is malformed or cut off' \
    client.pem cut.key
: >empty.pem
given 'an empty certificate file' CONFIG LOCAL_4 'empty.pem: no certificate' empty.pem client.key
given 'an empty key file' CONFIG LOCAL_4 'empty.pem: no private key' client.pem empty.pem
given 'a directory' CONFIG 'LOCAL_[0-9]*' 'Is a directory' . client.key

serve good
for file in crlf nonewline text; do
    case $file in
    crlf) sed 's/$/\r/' ca.pem >ca2.pem ;;
    nonewline) printf %s "$(cat ca.pem)" >ca2.pem ;;
    text) (openssl x509 -in ca.pem -text && echo trailing text) >ca2.pem ;;
    esac
    accept "a CA file: $file" --name server.test --ca ca2.pem
done
openssl x509 -in ca.pem -outform DER -out ca.der
accept 'a CA file in DER' --name server.test --ca ca.der
openssl x509 -in ca.pem -trustout -addreject serverAuth -out trusted.pem
config 'a TRUSTED CERTIFICATE as CA' LOCAL_4 'TRUSTED CERTIFICATE' --name server.test \
    --ca trusted.pem
cat trusted.pem wrongca.pem >trusted2.pem
refuse 'a TRUSTED CERTIFICATE among CAs' BR_ERR_X509_NOT_TRUSTED 'skipped: 1' --name server.test \
    --ca trusted2.pem
mkfifo fifo
cat ca.pem >fifo &
accept 'a CA file that is a pipe' --name server.test --ca fifo
sed 's/BEGIN CERT/BEGIN X509 CERT/;s/END CERT/END X509 CERT/' ca.pem >x509.pem
accept 'an X509 CERTIFICATE as CA' --name server.test --ca x509.pem
config 'an empty CA file' LOCAL_4 'empty.pem: no certificate' --name server.test --ca empty.pem
config 'a CA file without certificates' LOCAL_4 'client.key: no certificate' --name server.test \
    --ca client.key
config 'a CA file cut off' LOCAL_4 'no certificate' --name server.test --ca cut.pem
cat cut.pem huge.pem edwards.pem ca.pem >mixed.pem
peer_client 'a CA file with some that can.t be used' OK BR_ERR_OK 'mixed.pem: .* skipped' \
    --name server.test --ca mixed.pem
i=0
while [ $i -lt 400 ]; do cat rsa.pem; i=$((i + 1)); done >toomany.pem
config 'a CA file that does not fit' 'LOCAL_[0-9]*' 'options.ca_memory' --name server.test \
    --ca toomany.pem
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -f $bundle ]; then
    refuse 'the system.s CAs by default' BR_ERR_X509_NOT_TRUSTED "$bundle" --name server.test
else
    skip 'the system.s CAs by default' "there is no $bundle"
fi
SSL_CERT_FILE=$PWD/ca.pem accept 'SSL_CERT_FILE' --name server.test
SSL_CERT_FILE=$PWD/nosuch.pem config 'SSL_CERT_FILE that is not there' 'LOCAL_[0-9]*' nosuch.pem \
    --name server.test
# A set-uid program is not told by who starts it what to trust. chown needs root, and the folder a
# file system that heeds set-uid: `id` shows both.
cp "$(command -v id)" id && cp "$TLS_PEER" privileged && chmod 755 . id privileged
if [ -f $bundle ] && chown nobody id privileged 2>/dev/null && chmod u+s id privileged &&
    [ "$(./id -u)" = "$(id -u nobody)" ]; then
    given=$TLS_PEER
    TLS_PEER=./privileged
    SSL_CERT_FILE=$PWD/ca.pem peer_client 'SSL_CERT_FILE for a set-uid program' 'FAIL' \
        BR_ERR_X509_NOT_TRUSTED "$bundle" --name server.test
    TLS_PEER=$given
else
    skip 'SSL_CERT_FILE for a set-uid program' 'this user or file system can have none'
fi
