#!/bin/sh
# examples/forwarder.c as its users meet it: real clients over UDP and TCP, IPv4 and IPv6, awkward
# ones and upstreams that lie (dns_peer.c), and what arrives at the taps. All on loopback, the
# forwarder under AddressSanitizer and UBSan, and once under valgrind.
# usage: tests/interop/forwarder_test.sh [BUILD [PART-OF-A-TEST'S-NAME]]
. "$(dirname "$0")/../harness.sh"

# ---- what the tests are written with ----

evidence="$dir/*.err"
before_each() { rm -f "$dir"/*.err "$dir"/*.out "$dir"/*.sock; }

forwarder=$dir/forwarder
start() { # NAME OPTION...: a forwarder; its process is $pid, its first port $port
    log=$dir/$1.err
    shift
    : >"$log" # an earlier one's words are not this one's
    background $wrap "$forwarder" "$@" 2>"$log"
    wait_for 20 grep 'listening on' "$log" || return
    port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$log" | head -n 1)
}
wrap=
peer() { # COMMAND PORT: an upstream of dns_peer's, there
    background "$build/dns_peer" "$@"
}
stop() { # NAME PID: it ends in order, and nothing was found
    kill -TERM "$2" || return
    wait "$2" || { echo "$1 ended with $?" && return 1; }
    ! grep -E 'Sanitizer|runtime error' "$dir/$1.err"
}

if ! grep -q . /proc/net/if_inet6 2>/dev/null; then
    skip 'all of the forwarder' 'this machine has no IPv6'
    finish
fi
# kdig and dig, alike
if command -v kdig >/dev/null; then
    ask() { kdig +time=6 +retry=0 "$@"; }
elif command -v dig >/dev/null; then
    ask() { dig +noedns +time=6 +tries=1 "$@"; }
else
    skip 'all of the forwarder' 'neither kdig nor dig is installed'
    finish
fi
says() { # PATTERN COMMAND...: its output has the pattern, letters in either case
    pattern=$1
    shift
    "$@" >"$dir/said" 2>&1
    grep -q -i -E "$pattern" "$dir/said" && return
    echo "no '$pattern': $*" && cat "$dir/said" && false
}
at() { # ADDRESS PORT [ask's arguments]
    server=$1
    shift
    ask "@$server" -p "$@"
}

cat >"$dir/hosts" <<'HOSTS'
# the tests' own
192.0.2.1   a.example.test  B.Example.test.   # one with capitals
2001:db8::1 a.example.test
HOSTS
numbered() { # COUNT NAME: so many addresses for it
    i=0
    while [ $i -lt "$1" ]; do
        i=$((i + 1))
        echo "192.0.2.$((i % 256)) $2"
    done
}
numbered 60 many.example.test >>"$dir/hosts"
numbered 250 x00000.test >>"$dir/hosts"

# ---- the DNS ----

answers_everywhere() { # PORT: as the hosts file says
    for server in 127.0.0.1 ::1; do
        for way in +notcp +tcp; do
            says '60[[:space:]]+IN[[:space:]]+A[[:space:]]+192\.0\.2\.1$' \
                at $server "$1" $way a.example.test A &&
                says 'IN[[:space:]]+A[[:space:]]+192\.0\.2\.1$' \
                    at $server "$1" $way b.eXample.test A &&
                says 'IN[[:space:]]+AAAA[[:space:]]+2001:db8::1$' \
                    at $server "$1" $way A.example.TEST AAAA &&
                says 'status: NOERROR.*' at $server "$1" $way a.example.test MX &&
                says 'ANSWER: 0' at $server "$1" $way a.example.test MX &&
                says 'status: REFUSED' at $server "$1" $way nobody.example.test A || return
        done
    done
}
hosts_file() {
    start hosts --dns 127.0.0.1:0 || return
    free=$port
    stop hosts "$pid" || return
    start hosts --dns "127.0.0.1:$free" --dns "[::1]:$free" --hosts "$dir/hosts" &&
        answers_everywhere "$free" && stop hosts "$pid"
}
back() { # an upstream with the hosts file: $back, $back_pid
    start back --dns 127.0.0.1:0 --hosts "$dir/hosts" "$@" || return
    back=$port back_pid=$pid
}
front() { # [OPTION...]: one that takes both families and forwards to $back: $port, $pid
    start front --dns '[::]:0' --upstream "127.0.0.1:$back" "$@"
}
forwarding() {
    back && front && answers_everywhere "$port" && stop front "$pid" && stop back "$back_pid"
}
large_answers() {
    back && front || return
    for to in "$back" "$port"; do
        says 'flags:.* tc' at 127.0.0.1 "$to" +notcp +ignore many.example.test &&
            says 'flags:.* tc' at 127.0.0.1 "$to" +notcp +ignore +bufsize=900 many.example.test &&
            says 'ANSWER: 60' at 127.0.0.1 "$to" +bufsize=4096 +notcp +ignore many.example.test &&
            says 'ANSWER: 60' at ::1 "$port" many.example.test || return
    done
    stop front "$pid" && stop back "$back_pid"
}
edns() {
    back && front || return
    says 'udp: 1232|UDP size: 1232' at ::1 "$port" +bufsize=1400 a.example.test &&
        says 'BADVERS' at ::1 "$port" +edns=1 a.example.test && stop front "$pid"
}
dead_upstream() {
    back && stop back "$back_pid" && front || return
    says 'status: SERVFAIL' at 127.0.0.1 "$port" a.example.test &&
        says 'status: SERVFAIL' at 127.0.0.1 "$port" +tcp a.example.test && stop front "$pid"
}
silent_upstream() {
    back && stop back "$back_pid" && peer silent "$back" && front || return
    "$build/dns_peer" flood "$port" 1500 &&
        says 'status: SERVFAIL' at 127.0.0.1 "$port" +tcp a.example.test && stop front "$pid"
}
lying_upstream() {
    back && stop back "$back_pid" && peer liar "$back" && front || return
    says 'A[[:space:]]+192\.0\.2\.9$' at ::1 "$port" some.name.test &&
        "$build/dns_peer" load "$port" 300 && stop front "$pid"
}
client() { # COMMAND [COUNT]: of dns_peer's, against both; then all is as before
    back && front || return
    "$build/dns_peer" "$1" "$back" "${2:-0}" && "$build/dns_peer" "$1" "$port" "${2:-0}" &&
        says 192.0.2.1 at 127.0.0.1 "$port" a.example.test && stop front "$pid" &&
        stop back "$back_pid"
}
hostile_upstream() {
    back && stop back "$back_pid" && peer hostile "$back" && front || return
    "$build/dns_peer" fuzz "$port" 3000 && says 'status: ' at 127.0.0.1 "$port" +version.bind CH TXT
    stop front "$pid"
}

# ---- the taps ----

collector() { # the tool at $dir/tap.sock; for each message a line of JSON in $dir/tap.out
    background "$build/dnstap" -u "$dir/tap.sock" --exact -w "$dir/tap.out" 2>"$dir/tool.err"
    wait_for 5 test -S "$dir/tap.sock"
}
ask_all() { # PORT: two of ours in the end, and one refused, over UDP and TCP: 6 questions
    for way in +notcp +tcp; do
        for question in a b nobody; do
            at "$1" "$port" $way $question.example.test >/dev/null || return
        done
    done
}
# Messages of a type and a family and protocol that have all the fields.
complete() { # COUNT TYPE FAMILY PROTOCOL FIELD...
    count=$1 type=$2 found=$dir/complete
    grep "\"type\": \"$2\"" "$dir/tap.out" | grep "\"socket_family\": \"$3\"" |
        grep "\"socket_protocol\": \"$4\"" >"$found"
    shift 4
    for field; do
        grep "\"$field\": " "$found" >"$found.next"
        mv "$found.next" "$found"
    done
    [ "$(grep -c . "$found")" = "$count" ] && return
    echo "not $count complete $type:" && cat "$dir/tap.out" && false
}
counters() { # NAME ENDPOINT STATE LOGGED: what it said of the tap at its end
    grep -x "forwarder: $2: $3, logged $4, sent $4, dropped 0" "$dir/$1.err" && return
    cat "$dir/$1.err" && false
}
all_fields() {
    collector && back && front --tap "unix://$dir/tap.sock" --full --identity here || return
    ask_all 127.0.0.1 && ask_all ::1 && stop front "$pid" || return
    counters front "unix://$dir/tap.sock" started 48 || return
    wait_for 5 eval "[ \$(wc -l <$dir/tap.out) = 48 ]" || return
    who='query_address response_address query_port response_port identity version'
    asked="$who query_time_sec query_time_nsec"
    answered="$asked response_time_sec response_time_nsec response_message"
    # shellcheck disable=SC2086 # lists of fields
    for protocol in UDP TCP; do
        for family in INET INET6; do # the client's; IPv4 came in through [::]
            complete 3 CLIENT_QUERY $family $protocol $asked query_message &&
                complete 3 CLIENT_RESPONSE $family $protocol $answered || return
        done
        complete 6 FORWARDER_QUERY INET $protocol $asked query_message &&
            complete 6 FORWARDER_RESPONSE INET $protocol $answered || return
    done
    ! grep -v '"identity": "68657265"' "$dir/tap.out"
}
without_full() {
    collector && back && front --tap "unix://$dir/tap.sock" || return
    ask_all 127.0.0.1 && stop front "$pid" && counters front "unix://$dir/tap.sock" started 24 &&
        wait_for 5 eval "[ \$(wc -l <$dir/tap.out) = 24 ]" && ! grep '_message' "$dir/tap.out"
}
two_taps() {
    collector && back || return
    front --tap "unix://$dir/tap.sock" --tap "file://$dir/file" --full || return
    ask_all ::1 && stop front "$pid" && counters front "unix://$dir/tap.sock" started 24 &&
        counters front "file://$dir/file" started 24 || return
    "$build/dnstap" -r "$dir/file" --exact >"$dir/file.out" 2>/dev/null
    wait_for 5 cmp "$dir/file.out" "$dir/tap.out"
}
extras() { # the messages in $dir/tap.out: type and extra, a line each
    awk '{
        match($0, /[A-Z]+_(QUERY|RESPONSE)"/)
        type = substr($0, RSTART, RLENGTH - 1)
        hex = $0; sub(/.*"extra": "/, "", hex); sub(/".*/, "", hex)
        text = ""
        for (i = 1; i < length(hex); i += 2)
            text = text sprintf("%c", 16 * (index("0123456789abcdef", substr(hex, i, 1)) - 1) + \
                index("0123456789abcdef", substr(hex, i + 1, 1)) - 1)
        print type, text
    }' "$dir/tap.out"
}
has_extra() { # TYPE TEXT [TEXT-AFTER-IT]: one message has it, as a pattern of whole words
    extras | grep -E -x "$1 $2" >/dev/null && return
    echo "no $1 $2 in:" && extras && false
}
extra_of_exchange() { # QUESTION WHERE ANSWER: in all four messages, as far as each knows it
    for type in CLIENT FORWARDER; do
        up=127.0.0.1:$back
        [ $type = FORWARDER ] && before=$up || before=-
        has_extra ${type}_QUERY "$1 $2 - - $before - - [{]foo[}]" &&
            has_extra ${type}_RESPONSE "$1 $2 $3 $up - 0[.][0-9]*s [{]foo[}]" || return
    done
}
extra() {
    query='{type} {name} {class} {size} {>opcode} {>do}'
    where='{proto} {>bufsize} {remote} {local}'
    answer='{rcode} {rsize} {/forward/upstream} {/other} {duration} {foo}'
    collector && back || return
    front --tap "unix://$dir/tap.sock" --extra "$query $where $answer" || return
    at 127.0.0.1 "$port" +notcp A.example.test A >/dev/null &&
        at ::1 "$port" +tcp b.example.test AAAA >/dev/null &&
        at ::1 "$port" +notcp nobody.example.test TXT CH >/dev/null && stop front "$pid" &&
        wait_for 5 eval "[ \$(wc -l <$dir/tap.out) = 12 ]" || return
    extra_of_exchange 'A a.example.test. IN 32 0 false' \
        'udp 512 127.0.0.1 127.0.0.1' 'NOERROR 48' &&
        extra_of_exchange 'AAAA b.example.test. IN 32 0 false' \
            'tcp 65535 [[]::1[]] [[]::1[]]' 'NOERROR 32' &&
        extra_of_exchange 'TXT nobody.example.test. CH 37 0 false' \
            'udp 512 [[]::1[]] [[]::1[]]' 'REFUSED 37'
}
extra_keeps_to_the_client() { # its port and id in all messages, though the upstream sees others
    collector && back && front --tap "unix://$dir/tap.sock" --full --extra '{port} {>id}' || return
    at 127.0.0.1 "$port" a.example.test A >/dev/null && stop front "$pid" &&
        wait_for 5 eval "[ \$(wc -l <$dir/tap.out) = 4 ]" || return
    client=$(sed -n 's/.*"CLIENT_QUERY".*"query_port": \([0-9]*\).*/\1/p' "$dir/tap.out")
    id=$(sed -n 's/.*"CLIENT_QUERY".*"query_message": "\(....\).*/\1/p' "$dir/tap.out")
    extras && [ "$(extras | grep -c -x "[A-Z_]* $client $(printf %d "0x$id")")" = 4 ]
}
no_collector() {
    back && front --tap "unix://$dir/nobody.sock" --full || return
    ask_all 127.0.0.1 || return
    begun=$(date +%s)
    stop front "$pid" && [ $(($(date +%s) - begun)) -le 5 ] &&
        grep 'nobody.sock: .*, logged 24, sent 0, dropped 0$' "$dir/front.err"
}
late_collector() {
    back && front --tap "unix://$dir/tap.sock" --full && front_pid=$pid || return
    ask_all ::1 && collector || return
    wait_for 15 eval "[ -s $dir/tap.out ]" && stop front "$front_pid" &&
        counters front "unix://$dir/tap.sock" started 24 &&
        wait_for 5 eval "[ \$(wc -l <$dir/tap.out) = 24 ]"
}
load() { # COUNT: queries at full speed; what was sent is what the file holds
    back && front --tap "file://$dir/load" --full && "$build/dns_peer" load "$port" "$1" &&
        stop front "$pid" || return
    counters front "file://$dir/load" started $(($1 * 4)) || return
    "$build/dnstap" -r "$dir/load" -q 2>/dev/null | wc -l | grep -q -w $(($1 * 4))
    rm "$dir/load"
}
valgrind_finds_nothing() {
    forwarder=$build/forwarder
    wrap="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=all --track-fds=yes"
    collector && back && front --tap "unix://$dir/tap.sock" --full && ask_all 127.0.0.1 &&
        ask_all ::1 && "$build/dns_peer" pipeline "$port" 100 && stop front "$pid" &&
        stop back "$back_pid" && ! grep -E '^==[0-9]+== .*(lost|Invalid|uninit)' "$dir"/*.err
    status=$?
    wrap=
    forwarder=$dir/forwarder
    return $status
}
hello_is_well() {
    valgrind -q --error-exitcode=99 --leak-check=full "$build/hello" "file://$dir/hello" &&
        says 'CQ MISSING_ADDRESS  29b "example.com." IN A' "$build/dnstap" -r "$dir/hello" -q
}
# At most 40 are marked, and without them nothing of dnstap is left; some more are for --extra.
lines_for_dnstap() {
    awk '/<<dnstap|<<extra/ { inside = "" }
        /\/\* extra \*\/$/ || (inside == "extra" && NF) { extra++; next }
        /\/\* dnstap \*\/$/ || (inside && NF) { marked++; next }
        />>(dnstap|extra)/ && !/<<dnstap/ { inside = />>extra/ ? "extra" : "dnstap" }
        /dnstap_|DNSTAP_/ { print "not marked: " $0; bad = 1 }
        END { print marked " lines, " extra " for extra"; exit bad || marked > 40 || extra > 20 }' \
        examples/forwarder.c
}

refused() { # STATUS WHAT OPTION...
    local status=$1 what=$2
    shift 2
    timeout 20 "$forwarder" "$@" 2>"$dir/said" >&2
    [ $? = "$status" ] && grep "^forwarder: $what" "$dir/said" ||
        { echo "not refused with $status: $*" && return 1; }
}
usage() {
    local help any='--dns 127.0.0.1:0'
    for help in --help -h; do
        "$forwarder" $any $help >"$dir/usage" 2>"$dir/said" || return
        grep '^usage: forwarder ' "$dir/usage" && ! grep . "$dir/said" || return
    done
    echo 'dnstap nonsense {' >"$dir/config"
    refused 2 '--dns: is missing' && refused 2 '--dns: needs a value' --dns &&
        refused 2 '--bogus: no such option' $any --bogus &&
        refused 2 'stray: no such option' $any stray &&
        refused 2 '--tap: needs a value' $any --tap &&
        refused 2 '--identity: needs a value' $any --identity &&
        refused 2 'nonsense: expected' --dns nonsense &&
        refused 2 'nonsense: expected' $any --upstream nonsense &&
        refused 2 'taps: ' $any --tap 'tcp://' && refused 2 'taps: ' $any --config "$dir/config" &&
        refused 2 '127.*too many' $(printf -- '--dns 127.0.0.1:0 %.0s' 1 2 3 4 5 6 7 8 9) &&
        refused 2 '/s: too many' $any $(printf -- '--tap /s %.0s' 1 2 3 4 5 6 7 8 9) &&
        refused 1 "$dir/none: No such file" $any --hosts "$dir/none" &&
        refused 1 "$dir/none: No such file" $any --config "$dir/none" &&
        refused 1 'taps: .*none/file' $any --tap "file://$dir/none/file"
}

built dns_peer forwarder hello dnstap || exit 1
${CC:-cc} -std=c99 -I. -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
    examples/forwarder.c -lprotobuf-nanopb -lbearssl -lpthread -o "$forwarder" || exit 1

check 'a hosts file answers over UDP and TCP, IPv4 and IPv6' hosts_file
check 'the rest is forwarded' forwarding
check 'an answer too large for UDP is cut, and comes over TCP' large_answers
check 'EDNS is answered with EDNS, and an unknown version with BADVERS' edns
check 'a dead upstream means SERVFAIL' dead_upstream
check 'a silent upstream means SERVFAIL, also for queries beyond the limit' silent_upstream
check 'answers with another id, question or source are not taken' lying_upstream
check 'queries over TCP may come byte by byte' client pieces
check 'queries over TCP may be pipelined without end' client pipeline 2000
check 'a TCP client that reads slowly gets all of it' client glut 2000
check 'idle TCP connections make room for new ones' client crowd 150
check 'hostile clients do no harm' client fuzz 5000
check 'a hostile upstream does no harm' hostile_upstream
check 'all recommended fields arrive' all_fields
check 'without --full no DNS message leaves' without_full
check 'two taps get the same' two_taps
check 'labels of extra are what the client asked, and where it went' extra
check 'port and id in extra are the client'\''s' extra_keeps_to_the_client
check 'without a collector it answers, and ends in time' no_collector
check 'a collector that comes late gets everything' late_collector
check '10,000 queries, and the tap has all four messages of each' load 10000
check 'at most 40 lines concern dnstap' lines_for_dnstap
check '--help prints usage, and wrong usage is status 2' usage
if why=$(missing valgrind); then
    skip 'valgrind finds nothing' "$why"
else
    check 'valgrind finds nothing in the forwarder' valgrind_finds_nothing
    check 'valgrind finds nothing in hello, and its message is there' hello_is_well
fi
finish
