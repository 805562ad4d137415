#!/bin/sh
# The guide in examples/README.md: its C is a program that compiles in both languages and does what
# the text says; what it quotes, names and lists is there.
# usage: tests/compile/guide_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh
guide=examples/README.md
main=tests/compile/guide_main.c

fenced() { # FENCE: what stands in such blocks
    awk -v fence="$1" '$0 == fence && !on { on = 1; next }
        /^```/ { on = on ? 0 : 2 } on == 1' $guide
}
fenced '```c' >"$out/guide.h"
fenced '```' >"$out/quoted"

# ---- the text ----
quoted_is_there() {
    [ "$(wc -l <"$out/quoted")" -ge 4 ] && grep -c tap_message "$out/quoted" | grep -q -x \
        "$(grep -c '^ *tap_message(.*;' examples/forwarder.c)" &&
        tr -s ' ' <"$out/quoted" | while read -r line; do
            tr -s ' ' <examples/forwarder.c | grep -q -F "$line" || exit
        done
}
check 'the lines it quotes, all that log, are in forwarder.c' quoted_is_there
grep -v '#include <' $guide | grep -o -E '[a-z_/]+\.(c|h|sh)\b|`[a-z]+/`' | tr -d '`' |
    sort -u >"$out/files"
check 'every file that it names is there' sh -c "
    [ \$(wc -l <$out/files) -gt 15 ] && while read -r name; do
        [ -e \$name ] || [ -e examples/\$name ] || echo no \$name; done <$out/files"
check 'and it names every example' sh -c "
    for name in examples/*.c examples/*.h examples/*/; do
        name=\${name#examples/}; grep -q -F \"\$name\" $guide || echo not \$name; done"
check 'every name that it uses is in dnstap.h' sh -c "
    grep -o -w -E 'dnstap_[a-z_]+|DNSTAP_[A-Z_]+[A-Z]|options\.[a-z_]+' $guide | sort -u |
        sed 's/options\.//' | sed 's/_total$//' >$out/names
    [ \$(wc -l <$out/names) -gt 40 ] && while read -r name; do
        grep -q -w -e \"\$name\" dnstap.h || echo not \$name; done <$out/names"
table() { sed -n 's/^| `\([A-Z]*_[A-Z]*\)` |.*/\1/p' $guide; }
table >"$out/types"
sed -n 's/.*X(DNSTAP_MSG_[A-Z_]*, *[0-9]*, "\([A-Z_]*\)".*/\1/p' dnstap.h >"$out/schema"
check 'its table has the 14 types of the schema' sh -c \
    "[ \$(wc -l <$out/schema) = 14 ] && diff $out/types $out/schema"
check 'it is short' [ "$(wc -l <$guide)" -le 260 ]

# ---- the program ----
check 'it is laid out as all C here' sh -c "grep . $out/guide.h | head -c 1 | grep -q . &&
    cp .clang-format $out/ && clang-format --dry-run -Werror $out/guide.h"
for compiler in gcc clang g++ clang++; do
    case $compiler in *++) flags=$cpp ;; *) flags=$c ;; esac
    # shellcheck disable=SC2086 # flags
    check "it compiles with $compiler" $compiler $flags -I"$out" $main -o "$out/server" $libs
done
built dnstap || exit 1
run() { # NAME DIRECTIVES ARGUMENT...: those before the file; what it said is in NAME.log
    name=$1
    printf '%s\n' "$2" >"$out/$name.conf"
    shift 2
    timeout 20 "$out/server" "$@" 2>"$out/$name.log"
}
collect() { # NAME SOCKET: from now on, each field as JSON
    rm -f "$2"
    background stdbuf -oL "$build/dnstap" -u "$2" --socket-mode 0666 --exact \
        >"$out/$1.json" 2>"$out/$1.tool"
    wait_for 10 [ -S "$2" ]
}
have() { # NAME COUNT TYPE PATTERN: so many of the type have come, and all are such
    [ "$(grep -c "\"type\": \"$3\"" "$out/$1.json")" = "$2" ] &&
        [ "$(grep "\"type\": \"$3\"" "$out/$1.json" | grep -c -E "$4")" = "$2" ]
}
check 'its test of a configuration takes what is right' run right "dnstap unix://$out/s" \
    -t "$out/right.conf"
wrong() {
    ! run wrong 'dnstap /s ful' -t "$out/wrong.conf" && grep 'line 1, column' "$out/wrong.log" &&
        ! run unbound "dnstap unix://$out/s {
            tls_ca /nowhere
        }" -t "$out/unbound.conf" && [ -s "$out/unbound.log" ]
}
silent=
check 'and refuses what is wrong, with line and column' wrong

collect two "$out/s"
check 'two workers log' run two "dnstap unix://$out/s full" "$out/two.conf"
us='"query_address": "c0000201", "response_address": "c0000202", "query_port": 40000.*: 53,'
upstream='"query_address": "c0000202", "response_address": "c0000203", "query_port": 50000.*: 53,'
query='query_time_sec.*"query_message": "1234010'
check 'client queries are as the table says' wait_for 5 have two 200 CLIENT_QUERY "$us.*$query"
check 'so are queries upstream' wait_for 5 have two 200 RESOLVER_QUERY \
    "$upstream.*$query.*\"query_zone\": \"03636f6d00\""
both='query_time_sec.*response_time_sec.*"response_message": "12348180'
check 'so are answers' wait_for 5 have two 200 RESOLVER_RESPONSE "$upstream.*$both"
check 'and answers to clients' wait_for 5 have two 200 CLIENT_RESPONSE "$us.*$both"
check 'a query has no time of a response' sh -c \
    "! grep '\"type\": \"[A-Z]*_QUERY' $out/two.json | grep response_time"
check 'each worker has books of its own' [ "$(grep -c -E '^dnstap_sent_total.* 400$' \
    "$out/two.log")" = 2 ]
metrics_exist() {
    grep -o -E '`dnstap_[a-z_]+(\{cause="[a-z]*"\})?`' $guide | tr -d '`' |
        grep -E '_total|_ratio|_state$|_sinks$' | sed 's/{/{.*/' >"$out/metrics"
    [ "$(wc -l <"$out/metrics")" -ge 5 ] && while read -r metric; do
        grep -q "^$metric" "$out/two.log" "$out/listen.log" || echo "no $metric"
    done <"$out/metrics" >"$out/missing"
    cat "$out/missing"
    [ ! -s "$out/missing" ]
}
check 'where they listen they end without a sink' run listen "dnstap listen unix://$out/l" \
    "$out/listen.conf"
check 'it is counted in the metrics that the guide names' metrics_exist
stop_all

check 'its workers write one file in turn' run file "dnstap file://$out/f full" "$out/file.conf"
check 'nothing is lost in it' [ "$("$build/dnstap" -r "$out/f" | wc -l)" = 800 ]
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$out/jail/run"
    chmod 755 "$out" "$out/jail" "$out/jail/run"
    collect jail "$out/jail/run/s"
    check 'behind chroot and setuid the path is one in the jail' \
        run jail 'dnstap unix:///run/s full' "$out/jail.conf" "$out/jail"
    check 'all comes' wait_for 5 have jail 200 CLIENT_RESPONSE .
    stop_all
else
    skip 'behind chroot and setuid the path is one in the jail' 'root may chroot'
fi
finish
