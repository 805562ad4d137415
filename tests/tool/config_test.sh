#!/bin/sh
# dnstap --check-config: what it prints, where, and with which status.
# usage: tests/tool/config_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
built dnstap || exit 1
tool=$build/dnstap

config() { printf '%b' "$1" >"$dir/config"; }
run() { # STATUS [OPTION...]: of what stands in config; what it prints is in out and err
    want=$1
    shift
    "$tool" --check-config "$dir/config" "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got = "$want" ] || { echo "status $got, not $want" && cat "$dir/err" && false; }
}
prints() { # LINE...: they, and nothing else
    printf '%s\n' "$@" | cmp - "$dir/out" || { cat "$dir/out" && false; }
}
complains() { grep -q -F -- "$1" "$dir/err" || { echo "no '$1'" && cat "$dir/err" && false; }; }
silent() { [ ! -s "$dir/$1" ] || { cat "$dir/$1" && false; }; }

head='"skipverify": false, "cert_file": null, "key_file": null, "ca_file": null'
head=$head', "server_name": null, "unidirectional": false'
tail='"flush_ms": null, "timeout_ms": null, "drop_when_disconnected": false, "socket_mode": null'
tail=$tail', "max_sinks": null}'
plain() { # ENDPOINT FULL WRITEBUFFER QUEUE
    echo "{\"listen\": false, \"endpoint\": \"$1\", \"full\": $2, \"writebuffer\": $3," \
        "\"queue\": $4, \"extra\": null, $head, $tail"
}

each_tap_is_a_line() {
    config 'dnstap /s full 1024 2048 # first\ndnstap tcp://example.com:6000\n'
    run 0 && silent err &&
        prints "$(plain /s true 1024 2048)" "$(plain tcp://example.com:6000 false 1 1)"
}
every_option_has_its_key() {
    config 'dnstap tls://h:1 {\nidentity "a\\"ä"\nversion ""\nskipverify\ntls_ca a\n'
    printf '%s\n' 'tls_cert c k' 'tls_name n' 'unidirectional' 'flush now' 'timeout 2s' \
        'drop_when_disconnected' 'queue 3' '}' 'dnstap listen /l {' 'extra "{type}"' \
        'socket_mode 0660' 'max_sinks 9' '}' >>"$dir/config"
    run 0 && prints \
        '{"listen": false, "endpoint": "tls://h:1", "full": false, "writebuffer": 1, "queue": 3, '\
'"identity": "a\"\u00e4", "version": "", "extra": null, "skipverify": true, "cert_file": "c", '\
'"key_file": "k", "ca_file": "a", "server_name": "n", "unidirectional": true, "flush_ms": -1, '\
'"timeout_ms": 2000, "drop_when_disconnected": true, "socket_mode": null, "max_sinks": null}' \
        '{"listen": true, "endpoint": "/l", "full": false, "writebuffer": 1, "queue": 1, '\
'"extra": "{type}", "skipverify": false, "cert_file": null, "key_file": null, "ca_file": null, '\
'"server_name": null, "unidirectional": false, "flush_ms": null, "timeout_ms": null, '\
'"drop_when_disconnected": false, "socket_mode": 432, "max_sinks": 9}'
}
filters_have_keys_where_there_are_some() {
    config 'dnstap /s {\n types CQ 30\n rcode NXDOMAIN 63\n zone example.org .\n sample 100\n'
    printf '%s\n' ' anonymize 24 0' '}' >>"$dir/config"
    run 0 && silent err && grep -q -F '"types": ["CLIENT_QUERY", 30], "rcodes": [3, 63], '\
'"zones": ["example.org", "."], "sample": 100, "anonymize_v4": 24, "anonymize_v6": 0}' "$dir/out" &&
        run 2 --lenient && complains 'unknown property "types"'
}
errors_have_a_place() {
    config 'dnstap /s {\n\n    identitiy x\n}\n'
    run 2 && silent out && complains \
        "dnstap: $dir/config: line 3, column 5: unknown property \"identitiy\"; did you mean" &&
        complains '; did you mean "identity"?'
}
a_later_error_prints_no_tap() {
    config 'dnstap /s\ndnstap /t full 0\n'
    run 2 && silent out && complains 'line 2, column 16: writebuffer is "0"'
}
lenient_warns() {
    config 'dnstap s ful 4\n'
    run 2 && silent out && run 0 --lenient && prints "$(plain unix://s false 4 1)" &&
        complains 'warning: line 1, column 10: expected "full" or nothing, not "ful"'
}
open_is_asked() {
    config 'dnstap tcp://h:99999\n'
    run 0 && prints "$(plain tcp://h:99999 false 1 1)" && complains \
        'warning: line 1: tcp://h:99999: port "99999" is not a number from 1 to 65535; CoreDNS' ||
        return
    config "dnstap file://$dir/nowhere/x\ndnstap listen tls://:0 {\n tls $dir/no.pem k\n}\n"
    run 0 && complains "warning: line 1: file://$dir/nowhere/x: open: No such file" &&
        complains "warning: line 2: $dir/no.pem: can't open it: No such file"
}
variables_may_be_long() {
    config 'dnstap /s { identity {$LONG} version {$UNSET} }\n'
    LONG=$(printf '%065536d' 0)
    export LONG
    run 0 && grep -q "\"identity\": \"$LONG\", \"version\": \"\"" "$dir/out" &&
        complains 'variable "UNSET" is not set' && [ "$(grep -c UNSET "$dir/err")" = 1 ]
    status=$?
    unset LONG
    return $status
}
nothing_is_opened() {
    config "dnstap file://$dir/new\ndnstap listen $dir/socket\n"
    run 0 && [ ! -e "$dir/new" ] && [ ! -e "$dir/socket" ]
}
bad_files() {
    rm "$dir/config"
    run 2 && complains "$dir/config: No such file" || return
    mkdir "$dir/config" && run 2 && complains "$dir/config: Is a directory" &&
        rmdir "$dir/config" || return
    config 'dnstap /s {\n identity a\0b\n}\n'
    run 2 && complains 'byte 23 is NUL, which no option can hold' || return
    head -c 1100000 /dev/zero | tr '\0' '#' >"$dir/config"
    run 2 && complains 'larger than 1048576 bytes'
}
nothing_in_it() {
    config '# nothing\n'
    run 0 && silent out && complains 'warning: no tap in it'
}
flags_that_do_not_go_together() {
    config 'dnstap /s\n'
    run 2 -q && complains '--check-config: goes with --lenient only' &&
        ! "$tool" --lenient -r x 2>"$dir/err" && complains 'goes with --check-config'
}

check 'each tap is one JSON object, on a line' each_tap_is_a_line
check 'every option has its key' every_option_has_its_key
check 'filters have keys, too' filters_have_keys_where_there_are_some
check 'an error has line, column and a way out, and status 2' errors_have_a_place
check 'an error in a later tap prints none' a_later_error_prints_no_tap
check 'lenient makes warnings of what CoreDNS swallows' lenient_warns
check 'what dnstap_open would refuse is a warning' open_is_asked
check 'variables may be longer than the text, and warnings come once' variables_may_be_long
check 'nothing is opened' nothing_is_opened
check 'files that are no text are refused' bad_files
check 'no tap at all is said' nothing_in_it
check 'flags that do not go together are refused' flags_that_do_not_go_together

finish
