#!/bin/bash
# Every further producer that Debian has, live, into our sink: Unbound over TLS with a certificate
# of its own, and without handshake; NSD, PowerDNS Recursor, Knot Resolver; the files of BIND, Knot
# and kdig. What there is over unix and tcp of Unbound, BIND, Knot and dnsdist is in live_test.sh.
# usage: tests/interop/producers_test.sh [BUILD [PART-OF-A-TEST'S-NAME]]
. "$(dirname "$0")/live_lib.sh"
top=$PWD

# ---- Unbound ----

unbound_without_handshake() { # unix|tcp
    tool "$1" -q || return
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    start_unbound "$(unbound_sink "$1")
dnstap-bidirectional: no"
    drive "$server" || return
    logged_questions CQ CR && tool_is_well "$pid"
}

certificates() { # ca's: server and client; another CA's: stranger
    (cd "$dir" && . "$top/tests/certificates.sh" && ca ca && ca other && leaf server &&
        key client P-256 && sign client ca /CN=unbound.client &&
        key stranger P-256 && sign stranger other /CN=stranger)
}
secure_tool() { # our tool listens with TLS, and wants certificates
    new_port
    sink=$port
    start "$build/dnstap" -l "tls://127.0.0.1:$sink" --tls-cert "$dir/server.pem" \
        --tls-key "$dir/server.key" --tls-ca "$dir/ca.pem" -q -w "$dir/out"
    collector=$pid
    wait_for 5 listens "$sink"
}
start_secure_unbound() { # CERTIFICATE: its own, or none
    start_unbound "dnstap-ip: 127.0.0.1@$sink
dnstap-tls: yes
dnstap-tls-server-name: server.test
dnstap-tls-cert-bundle: $dir/ca.pem
${1:+dnstap-tls-client-key-file: $dir/$1.key
dnstap-tls-client-cert-file: $dir/$1.pem}"
}
unbound_over_tls() {
    certificates && secure_tool || return
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    start_secure_unbound client
    drive "$server" || return
    logged_questions CQ CR && tool_is_well "$pid"
}
unbound_is_sent_away() { # CERTIFICATE, TEXT
    certificates && secure_tool || return
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    start_secure_unbound "$1"
    drive "$server" && wait_for 10 grep "$2" "$dir/log" && [ ! -s "$dir/out" ] &&
        tool_is_well "$pid"
}

# ---- NSD, PowerDNS Recursor, Knot Resolver; by libfstrm two of them hand on at their end ----

nsd_to_tool() {
    tool unix -q || return
    new_port
    auth=$port
    configure nsd.conf "$auth" 0 "$socket"
    unconfined nsd
    start "$dir/nsd" -d -c "$dir/nsd.conf"
    drive "$auth" && stop || return
    logged_questions AQ AR && tool_is_well "$pid"
}

recursor_to_tool() { # unix|tcp
    tool "$1" -q || return
    [ "$1" = unix ] && collector_at=$socket || collector_at=127.0.0.1:$port
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    new_port
    configure recursor.conf "$port" "$auth" "$collector_at"
    configure recursor.lua "$port" "$auth" "$collector_at"
    printf '. 3600000 NS here.\nhere. 3600000 A 127.0.0.1\n' >"$dir/hint"
    start pdns_recursor --config-dir="$dir"
    drive "$port" || return
    logged ' RQ 127.* "mail\.example\.test\." IN A$' ' RR 127.* "mail\.example\.test\." IN A$' \
        ' RQ 127.* "txt\.example\.test\." IN TXT$' && tool_is_well "$pid"
}

kresd_to_tool() {
    tool unix -q || return
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    new_port
    configure kresd.conf "$port" "$auth" "$socket"
    start kresd -n -q -c "$dir/kresd.conf" "$dir"
    drive "$port" && stop || return
    logged_questions CQ CR && tool_is_well "$pid"
}

# ---- files ----

# What the server has written by its end.
file_holds() { # FILE PATTERN...
    local file=$1 pattern
    shift
    stop TERM
    "$build/dnstap" -q -r "$file" >"$dir/out" || return
    for pattern; do grep -E "$pattern" "$dir/out" || { cat "$dir/out" && return 1; }; done
}
questions=(' AQ 127.* "mail\.example\.test\." IN A$'
    ' AQ 127.* TCP .*"txt\.example\.test\." IN TXT$')

bind_writes_a_file() {
    start_bind "$dir/file.fstrm"
    stop KILL
    sed -i 's/dnstap-output unix/dnstap-output file/' "$dir/bind.conf"
    start "$dir/named" -g -4 -n 1 -c "$dir/bind.conf"
    drive "$auth" && file_holds "$dir/file.fstrm" "${questions[@]}"
}
knot_writes_a_file() {
    start_knot "$dir/file.fstrm"
    stop KILL
    sed -i 's/sink: unix:/sink: /' "$dir/knot.conf"
    start knotd -c "$dir/knot.conf"
    drive "$auth" && file_holds "$dir/file.fstrm" "${questions[@]}" ' AR 127'
}
kdig_writes_a_file() {
    start_knot /nowhere
    wait_for 10 answers "$auth" || return
    ask "$auth" mail.example.test A -E "$dir/file.fstrm" || return
    file_holds "$dir/file.fstrm" ' TQ .* "mail\.example\.test\." IN A$' \
        ' TR .* "mail\.example\.test\." IN A$'
}

# ---- the tests ----

built dnstap || exit 1

live 'Unbound over TLS with a certificate of its own' 'unbound knotd kdig openssl' unbound_over_tls
live 'Unbound without a certificate is sent away' 'unbound knotd kdig openssl' \
    unbound_is_sent_away '' 'certificate'
live "Unbound with another CA's certificate is sent away" 'unbound knotd kdig openssl' \
    unbound_is_sent_away stranger 'certificate'
for over in unix tcp; do
    live "Unbound without handshake over $over" 'unbound knotd kdig' unbound_without_handshake $over
    live "PowerDNS Recursor over $over" 'pdns_recursor knotd kdig' recursor_to_tool $over
done
live 'NSD' 'nsd kdig' nsd_to_tool
live 'Knot Resolver' 'kresd knotd kdig' kresd_to_tool
live 'a file of BIND' 'named kdig' bind_writes_a_file
live 'a file of Knot' 'knotd kdig' knot_writes_a_file
live 'a file of kdig' 'knotd kdig' kdig_writes_a_file
finish
