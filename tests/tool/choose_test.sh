#!/bin/sh
# Which messages the tool puts out: --type, --name, --client, --rcode, alone and together, and -n;
# and files that grow.
# usage: tests/tool/choose_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
${CC:-cc} -std=c99 -O1 -I. -o "$dir/odd_stream" tests/tool/odd_stream.c \
    -lprotobuf-nanopb -lbearssl -lpthread || exit 1
resolver=$data/unbound-1.17.1-resolver.fstrm
"$tool" -q -r "$resolver" >"$dir/all"

# chooses CONDITION FLAGS...: the lines of quiet text for which awk's condition holds, if not all
chooses() {
    awk "$1" "$dir/all" >"$dir/want"
    shift
    "$tool" -q -r "$resolver" "$@" >"$dir/out" && cmp "$dir/want" "$dir/out" &&
        grep -q . "$dir/want" && ! cmp -s "$dir/all" "$dir/out"
}

# ---- types ----

check 'a type has two letters' chooses '$2 == "CQ"' --type CQ
check 'a type has a name' chooses '$2 == "RR"' --type RESOLVER_RESPONSE
check 'types are in either case' chooses '$2 == "CR"' --type client_Response
check 'types have commas between them' chooses '$2 == "CQ" || $2 == "RQ"' --type cq,RESOLVER_QUERY
check 'types are repeated' chooses '$2 == "CQ" || $2 == "RQ"' --type CQ --type RQ
check 'a type is a number' chooses '$2 == "CQ"' --type 5
check 'an unknown type is refused' says 2 '--type: no such type' --type XQ -r "$resolver"
check 'no type is refused' says 2 '--type: no such type' --type CQ, -r "$resolver"

# ---- names ----

check 'a name is the one that was asked for' chooses '/"www\.example\.test\."/' \
    --name www.example.test
check 'a suffix has all below it' chooses '/[."]sub\.example\.test\."/' --name sub.example.test.
check 'a suffix is of whole labels' eval '! "$tool" -q -r "$resolver" --name ample.test | grep .'
# One label that ends in the bytes of two, sizes and all: not below ample.test.
holds_no_label() {
    {
        head -c 42 "$resolver"
        printf '\0\0\0\53r\47\10\5R\43\0\0\0\0\0\1\0\0\0\0\0\0'
        printf '\15xy\5ample\4test\3com\0\0\1\0\1x\1'
        printf '\0\0\0\0\0\0\0\4\0\0\0\3'
    } >"$dir/in"
    "$careful" -q -r "$dir/in" | grep -F '"xy\005ample\004test.com." IN A' &&
        ! "$careful" -q -r "$dir/in" --name ample.test.com | grep .
}
check 'and not of bytes that look like labels' holds_no_label
check 'names are in either case' chooses '/"www\.example\.test\."/' --name WWW.Example.TEST
check 'names are alternatives' chooses '/"(www|txt)\.example\.test\."/' \
    --name www.example.test,txt.example.test
check 'a dot may be before the suffix' chooses '/[."]sub\.example\.test\."/' \
    --name .sub.example.test
check 'the root has all names' eval '"$tool" -q -r "$resolver" --name . >"$dir/out" &&
    cmp "$dir/all" "$dir/out"'
check 'escapes stand for bytes' chooses '/"www\.example\.test\."/' --name 'w\119w.example.test'
check 'what is no name is refused' says 2 '--name: not a name' --name a..b -r "$resolver"
names_of_queries() { # a message without a readable question has no name
    "$dir/odd_stream" messages >"$dir/odd" && "$careful" -q -r "$dir/odd" >"$dir/want" &&
        "$careful" -q --name . -r "$dir/odd" >"$dir/out" && grep -q X "$dir/want" &&
        ! grep -E ' (0b|1[0-7]b) ' "$dir/out" && [ "$(grep -c -v X "$dir/out")" = \
        "$(grep -c -v X "$dir/want")" ]
}
check 'a question counts whatever is behind it' names_of_queries

# ---- clients ----

"$dir/odd_stream" clients >"$dir/clients"
clients() { # COUNT PREFIX...
    want=$1
    shift
    "$careful" --exact -r "$dir/clients" "$@" >"$dir/out" &&
        [ "$(grep -c . "$dir/out")" = "$want" ] || { grep -c . "$dir/out"; return 1; }
}
check 'an IPv4 prefix is of addresses that are mapped, too' clients 512 --client 192.0.2.0/24
check 'a prefix ends between bytes' clients 256 --client 192.0.2.128/25
check 'an address is a prefix' clients 2 --client 192.0.2.7
check 'bits behind the prefix do not matter' clients 32 --client 192.0.2.77/28
check 'a mapped prefix is one of IPv4' clients 256 --client ::ffff:192.0.2.0/121
check 'an IPv6 prefix is of addresses of IPv6' clients 256 --client 2001:db8::/32
check 'an IPv6 prefix ends between bytes' clients 128 --client 2001:db8::80/121
check 'all of IPv6 has no IPv4' clients 256 --client ::/0
check 'all of IPv4 has no IPv6' clients 512 --client 0.0.0.0/0
check 'prefixes are alternatives' clients 258 --client 192.0.2.1,2001:db8::/64
for wrong in 192.0.2.0/33 2001:db8::/129 192.0.2/24 192.0.2.0/ 192.0.2.0/-1 x ''; do
    check "'$wrong' is no prefix" says 2 '--client: not a prefix' --client "$wrong" -r "$resolver"
done

# ---- codes ----

codes() { # COUNT FLAGS...: of responses with the code, none besides
    want=$1
    shift
    "$tool" -j -r "$resolver" "$@" >"$dir/out" && [ "$(grep -c . "$dir/out")" = "$want" ] ||
        { grep -c . "$dir/out"; return 1; }
}
check 'a code has a name' codes 8 --rcode NXDOMAIN
check 'a code is a number' codes 8 --rcode 3
check 'codes are in either case, and alternatives' codes 105 --rcode nxdomain,noerror
check 'only responses have a code' eval 'codes 97 --rcode NOERROR &&
    [ "$(grep -c "\"response_message\":\".*status: NOERROR" "$dir/out")" = 97 ]'
check "a code's upper bits are EDNS's" eval \
    '[ "$("$tool" -y -r "$data/golang-dnstap/hdr.tap" --rcode BADVERS |
        grep -c "status: BADSIG")" = 1 ]'
check 'an unknown code is refused' says 2 '--rcode: no such code' --rcode NIX -r "$resolver"

# ---- together ----

check 'choices of all kinds have to fit' \
    chooses '$2 == "RR" && /[."]sub\.example\.test\."/' --type RR --name sub.example.test
check 'nothing fits' eval '! "$tool" -q -r "$resolver" --type UQ | grep .'

stored() { # what is stored is chosen, too, and what can't be decoded fits no choice
    rm -f "$dir/copy"
    "$tool" -r "$bad/p02-missing-message-type.fstrm" -w "$dir/copy" --type CQ
    "$tool" -q -r "$dir/copy" 2>"$dir/err" >"$dir/out" && [ "$(grep -c CQ "$dir/out")" = 2 ] &&
        ! grep . "$dir/err"
}
check 'a file has what was chosen' stored
check 'it goes with inputs only' says 2 '--check-config: goes with --lenient only' \
    --check-config "$0" --type CQ

# ---- so many ----

first() { # COUNT FLAGS...
    count=$1
    shift
    exits 0 "$tool" -q "$@" -n "$count" >"$dir/out" 2>"$dir/err" &&
        [ "$(grep -c . "$dir/out")" = "$count" ] || { cat "$dir/err"; return 1; }
}
check '-n ends after so many' first 7 -r "$resolver"
check '-n counts what is chosen' eval 'first 3 -r "$resolver" --type CR &&
    [ "$(grep -c " CR " "$dir/out")" = 3 ]'
check '-n goes over files' first 230 -r "$resolver" -r "$data/knot-3.2.6-auth.fstrm"
check '-n ends well before what is wrong' first 1 -r "$bad/p02-missing-message-type.fstrm"
check 'less than that is all there is' eval \
    '"$tool" -q -n 1000000 -r "$resolver" | cmp "$dir/all" -'
for wrong in 0 -1 x '' 99999999999999999999; do
    check "-n refuses '$wrong'" says 2 '-n: give a number' -n "$wrong" -r "$resolver"
done

stored_first() { # as a whole file, ready to be read
    rm -f "$dir/copy"
    "$tool" -r "$resolver" -w "$dir/copy" -n 5 &&
        "$tool" -q -r "$dir/copy" 2>"$dir/err" >"$dir/out" &&
        [ "$(grep -c . "$dir/out")" = 5 ] && ! grep . "$dir/err"
}
check 'a file has so many, and its STOP' stored_first
copied_first() { # what can't be decoded is copied, and counts
    rm -f "$dir/copy"
    exits 1 "$tool" -r "$bad/p02-missing-message-type.fstrm" -w "$dir/copy" -n 2
    [ "$("$tool" -q -r "$dir/copy" 2>/dev/null | grep -c .)" = 1 ]
}
check 'a copy has so many frames' copied_first

from_socket() { # of one that stays open
    start -u "$dir/sock" -q -n 4 || return 1
    background fstrm_replay -t $type -r "$resolver" -u "$dir/sock"
    sender=$pid
    listening=${pids% *}
    wait_for 10 eval "! kill -0 ${listening##* }"
    exits 0 wait "${listening##* }" && [ "$(grep -c . "$dir/out")" = 4 ]
}
check '-n ends what listens, too' from_socket

# ---- files that grow ----

has() { [ "$(grep -c . "$dir/out")" = "$1" ]; }
knot=$data/knot-3.2.6-auth.fstrm
grows() { # in the middle of a frame, and of its length
    head -c 60 "$knot" >"$dir/log"
    background "$tool" -q -r "$dir/log" --follow >"$dir/out" 2>"$dir/err"
    reader=$pid
    wait_for 10 reads "$dir/log"
    tail -c +61 "$knot" | head -c 1000 >>"$dir/log"
    wait_for 10 grep -q . "$dir/out" && kill -0 $reader || return 1
    tail -c +1061 "$knot" >>"$dir/log"
    wait_for 10 has 134 && wait_for 10 eval "! kill -0 $reader" && exits 0 wait $reader &&
        "$tool" -q -r "$knot" | cmp "$dir/out" - && ! grep . "$dir/err"
}
reads() { # FILE: it is open, and at its end
    for descriptor in /proc/"$reader"/fd/*; do
        [ "$(readlink "$descriptor")" = "$1" ] || continue
        grep -q "^pos:[[:blank:]]*$(wc -c <"$1")$" "/proc/$reader/fdinfo/${descriptor##*/}" &&
            return 0
    done
    return 1
}
check '--follow reads a file as it grows, to its STOP' grows

two_grow() { # neither waits for the other, and a signal ends it
    head -c -12 "$knot" >"$dir/log"
    head -c -12 "$data/kdig-3.2.6-tool.fstrm" >"$dir/log2"
    background "$tool" -q -r "$dir/log" -r "$dir/log2" --follow >"$dir/out" 2>"$dir/err"
    wait_for 10 has 152 && kill $pid && exits 0 wait $pid
}
check '--follow reads all files at once, until a signal comes' two_grow

shrinks() {
    head -c -12 "$knot" >"$dir/log"
    background "$tool" -q -r "$dir/log" --follow >"$dir/out" 2>"$dir/err"
    wait_for 10 has 134 || return 1
    head -c 100 "$knot" >"$dir/log"
    exits 1 wait $pid && grep -E '^[-0-9]{10} [:0-9]{8} dnstap: .*/log: was cut off' "$dir/err"
}
check 'a file that becomes shorter is told of, with the time' shrinks

finish
