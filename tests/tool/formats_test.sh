#!/bin/sh
# The tool's YAML and JSON: byte for byte golang-dnstap's, recorded and live, but for the text of
# DNS messages and what only ours has; and taken by parsers, whatever a message holds. What is odd
# in an input is told and counted. usage: tests/tool/formats_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
${CC:-cc} -std=c99 -O1 -I. -o "$dir/odd_stream" tests/tool/odd_stream.c \
    -lprotobuf-nanopb -lbearssl -lpthread || exit 1
knot=$data/knot-3.2.6-auth.fstrm
formats="python3 tests/tool/formats.py"

flag() { echo "-$1" | cut -c 1-2; } # yaml: -y

# ---- the same as golang-dnstap's ----

recorded() { # NAME KIND
    "$tool" -r "$data/golang-dnstap/$1.tap" "$(flag "$2")" >"$dir/out"
    want=$data/golang-dnstap/$1.$(echo "$2" | cut -c 1).out
    $formats same "$2" "$dir/out" "$want" && [ "$(wc -c <"$want")" -le "$(wc -c <"$dir/out")" ]
}
for kind in yaml json; do
    for file in "$data"/golang-dnstap/*.tap; do
        name=$(basename "$file" .tap)
        check "$kind of $name is golang-dnstap's" recorded "$name" $kind
    done
done

live() { # KIND FILE MESSAGES: at least so many
    "$careful" "$(flag "$1")" -r "$2" >"$dir/out" 2>"$dir/err" &&
        timeout 60 dnstap "$(flag "$1")" -r "$2" >"$dir/want" 2>/dev/null &&
        $formats same "$1" "$dir/out" "$dir/want" && [ "$(grep -c . "$dir/want")" -ge "$3" ]
}
for kind in yaml json; do
    for file in "$data"/*.fstrm; do
        case $file in *-large.fstrm) continue ;; esac
        check "$kind of $(basename "$file" .fstrm) is golang-dnstap's, live" live $kind "$file" 6
    done
done

"$dir/odd_stream" sizes >"$dir/sizes"
"$dir/odd_stream" fields >"$dir/fields"
"$dir/odd_stream" texts >"$dir/texts"
"$dir/odd_stream" records >"$dir/records"
for kind in yaml json; do
    for odd in fields texts; do
        check "$kind of odd $odd is golang-dnstap's, live" live $kind "$dir/$odd" 3000
    done
done
check "yaml of odd records is golang-dnstap's, live" live yaml "$dir/records" 16000
check "yaml of addresses of all sizes is golang-dnstap's, live" live yaml "$dir/sizes" 3000

# Addresses, times and policies that it prints wrongly or not at all are ours.
parsers_take() { # KIND FILE MESSAGES
    "$careful" "$(flag "$1")" -r "$2" >"$dir/out" 2>"$dir/err"
    $formats parses "$1" "$dir/out" "$3"
}
"$dir/odd_stream" mutants "$data/knot-3.2.6-auth.fstrm" >"$dir/mutants"
mutants=$("$tool" -q -r "$dir/mutants" | grep -c .)
check 'there are mutants' [ "$mutants" -ge 5000 ]
for kind in yaml json; do
    check "a parser takes $kind of messages with any field" parsers_take $kind "$dir/sizes" 3000
    check "a parser takes $kind of all characters" parsers_take $kind "$dir/texts" 34824
    check "a parser takes $kind of spoilt messages" parsers_take $kind "$dir/mutants" "$mutants"
done

# ---- what only we have ----

prints_line() { # KIND CASE LINE: of a malformed file
    "$careful" "$(flag "$1")" -r "$bad/$2.fstrm" >"$dir/out" 2>"$dir/err"
    grep -q -x -F -e "$3" "$dir/out" || { cat "$dir/out"; return 1; }
}
check 'YAML has protocols' prints_line yaml p64-doq-protocol '  socket_protocol: DOQ'
check 'YAML has HTTP versions' prints_line yaml p62-http-protocol-2 '  http_protocol: HTTP2'
check "YAML has a policy's numbers" prints_line yaml p58-policy-unknown-values '    action: 77'
check "YAML has a policy's rule as a name" \
    prints_line yaml p58-policy-unknown-values '    rule: "bad."'
json_holds() { # CASE TEXT
    "$careful" -j -r "$bad/$1.fstrm" >"$dir/out" 2>"$dir/err"
    grep -q -F -e "$2" "$dir/out" || { cat "$dir/out"; return 1; }
}
check 'JSON has protocols' json_holds p64-doq-protocol '"socket_protocol":"DOQ"'
check 'JSON has HTTP versions' json_holds p62-http-protocol-2 ',"http_protocol":"HTTP2"}}'
check 'JSON has policies' json_holds p58-policy-unknown-values \
    ',"policy":{"type":"RPZ","rule":"bad.","action":"77","match":"88","value":"\u0001\u0002"}'
check 'JSON has extra' eval \
    '"$tool" -j -r "$data/golang-dnstap/cq_notfull.tap" | grep -F ",\"extra\":\"x: \\\"y\\\"\","'

# ---- golang-dnstap's faults ----

survives() { # KIND CASE STATUS TEXT: the good messages around, and what is told
    exits "$3" "$careful" "$(flag "$1")" -r "$bad/$2.fstrm" >"$dir/out" 2>"$dir/err" &&
        [ "$(grep -c CLIENT_QUERY "$dir/out")" = 2 ] && grep -q -F -e "$4" "$dir/err" ||
        { cat "$dir/out" "$dir/err"; return 1; }
}
for kind in yaml json; do
    check "$kind goes on behind a bad payload, which is counted" survives $kind \
        p02-missing-message-type 1 'of its frames, 1 not dnstap'
    check "$kind goes on behind a payload without message, which is counted" survives $kind \
        p18-message-as-varint 0 'of its frames, 1 without a message'
done
odd_addresses() { # KIND
    "$careful" "$(flag "$1")" -r "$dir/sizes" >"$dir/out" 2>"$dir/err"
    grep -q 'response_address.*?[0-9a-f]' "$dir/out" &&
        [ "$(grep -c 'an address has neither 4 nor 16 bytes' "$dir/err")" = 1 ] &&
        grep -E 'of its frames, [0-9]{4} with an address of odd length' "$dir/err"
}
check 'yaml goes on behind an address of odd length, and counts them' odd_addresses yaml
check 'json goes on behind an address of odd length, and counts them' odd_addresses json

large_frame() { # KIND: a message whose identity has 100,000 bytes
    {
        head -c 42 "$data/kdig-3.2.6-tool.fstrm"
        printf '\0\1\206\252\12\240\215\6'
        head -c 100000 /dev/zero | tr '\0' x
        printf 'r\2\10\5x\1\0\0\0\0\0\0\0\4\0\0\0\3'
    } >"$dir/in"
    "$careful" "$(flag "$1")" -r "$dir/in" >"$dir/out" && grep -q 'x"' "$dir/out" &&
        [ "$(wc -c <"$dir/out")" -gt 100000 ]
}
check 'yaml has frames beyond 96 KiB' large_frame yaml
check 'json has frames beyond 96 KiB' large_frame json

# ---- for people ----

on_terminal() { # COMMAND: what it prints there, without the carriage returns
    TERM=xterm script -q -c "$1" /dev/null </dev/null | tr -d '\r'
}
esc=$(printf '\033')
check 'there are colors on a terminal' eval 'unset NO_COLOR
    on_terminal "$tool -q -r $knot 2>/dev/null" | grep "$esc\[1m\"example.test.\"$esc\[0m"'
check 'NO_COLOR keeps them away' eval \
    '! NO_COLOR=1 on_terminal "$tool -q -r $knot 2>/dev/null" | grep "$esc"'
check '--color=never, too' eval \
    '! on_terminal "$tool -q --color never -r $knot 2>/dev/null" | grep "$esc"'
check 'there are none elsewhere' eval '! "$tool" -q -r "$knot" 2>&1 | grep "$esc"'
for format in q y j; do
    check "-$format --color=always has colors everywhere, and the same text" eval '
        NO_COLOR=1 "$tool" -$format --color=always -r "$knot" >"$dir/out" 2>"$dir/err" &&
        grep -q "$esc" "$dir/out" && "$tool" -$format -r "$knot" >"$dir/want" 2>"$dir/err" &&
        sed "s/$esc\[[0-9]*m//g" "$dir/out" | cmp "$dir/want" -'
done
check 'a color is one of three' says 2 '--color: give auto, always or never' \
    --color blue -r "$data/golang-dnstap/many.tap"
check 'a terminal obeys nothing of JSON' eval \
    '! on_terminal "$tool -j --color never -n 2000 -r $dir/texts 2>/dev/null" |
        LC_ALL=C.UTF-8 grep "[$(printf "\177\302\233\342\200\256")]"'

dated() {
    tap=$data/golang-dnstap
    "$tool" -q --date -r "$tap/many.tap" | grep '^2020-09-13 12:26:40\.[0-9]* CQ ' &&
        TZ=IST-15 "$tool" -q --date -r "$tap/many.tap" | grep '^2020-09-14 03:26:40\.[0-9]* CQ ' &&
        "$tool" -q --date -r "$tap/minimal.tap" | grep '^????-??-?? ??:??:??\.?????? CQ '
}
check '--date puts the day before the time' dated

stamped() {
    start -u "$dir/sock" -q && stop 0 &&
        grep -E '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} dnstap: ' "$dir/err" &&
        ! grep '^dnstap: ' "$dir/err"
}
check 'diagnostics have the time where inputs stay open' stamped
check 'and none where all is read from files' eval \
    '"$tool" -r "$data/golang-dnstap/nostop.tap" 2>&1 >/dev/null | grep "^dnstap: "'

# A file that takes the careful build seconds.
{
    head -c 42 "$large"
    for _ in 1 2 3 4; do tail -c +43 "$large" | head -c -12; done
    tail -c 12 "$large"
} >"$dir/long.fstrm"
shows_progress() { # and nothing of it stays
    on_terminal "$careful -y -r $dir/long.fstrm -w $dir/copy" >"$dir/out"
    grep -E "dnstap: .*long\.fstrm: [1-9][0-9]?%: [0-9]+ messages$esc\[K\$" "$dir/out"
}
check 'the progress through a long file is shown on a terminal' shows_progress
check 'not where lines go' eval \
    '! on_terminal "$careful -y -n 60000 -r $dir/long.fstrm" | grep -a "messages$esc"'
check 'nor to a file' eval '"$careful" -y -r "$dir/long.fstrm" 2>"$dir/err" >"$dir/out" &&
    ! grep . "$dir/err"'

finish
