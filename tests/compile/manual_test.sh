#!/bin/sh
# The manual and the README against the header: every public function stands in the manual's list,
# every macro among its macros, and the README's programs do what they say.
# usage: tests/compile/manual_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh

# ---- the manual ----
section() { sed -n "/^ \* $1/,/^ \*\(\$\|\/\)/p" dnstap.h; }
sed '/Stop here if you only want the API/,$d' dnstap.h >"$out/api.h"
sed -n 's/^DNSTAP_API [^(]*[ *]\(dnstap_[a-z_0-9]*\)(.*/\1/p' "$out/api.h" | sort >"$out/functions"
# "dnstap_a_init, _next" names two of them, and "dnstap_b_" stands for _name and _from
section 'ALL FUNCTIONS' | grep -o -w -E '(dnstap)?_[a-z_]*' | awk '
    /_$/ { print $0 "name"; print $0 "from"; next }
    /^_/ { sub(/_[a-z]*$/, "", last); last = last $0; print last; next }
    { last = $0; print }' | sort >"$out/listed"
check 'there are public functions' [ "$(wc -l <"$out/functions")" -gt 40 ]
check 'the manual lists every public function, and no other, and each once' \
    diff "$out/functions" "$out/listed"

# what the header asks for and does not define itself: the user may
grep -o -w -E '(ifndef|ifdef|defined\() *DNSTAP_[A-Z_]+' dnstap.h | grep -o 'DNSTAP_.*' |
    grep -v -x -E 'DNSTAP_H?_?(H|IMPLEMENTATION)_INCLUDED|DNSTAP_IMPLEMENTATION' | grep -v __ |
    sed -E 's/^DNSTAP_(NO|WITH)_([A-Z]+)$/\2/' | sort -u >"$out/macros" # they are in a table
sed -n '/^ \* MACROS/,/^ \*\//p' dnstap.h | grep -o -w -E '[A-Z_]+' | sort -u >"$out/told"
check 'there are macros' [ "$(wc -l <"$out/macros")" -gt 10 ]
check 'the manual names every macro that may be defined' \
    sh -c "comm -23 $out/macros $out/told"
check 'the macros come last' sh -c "[ \"\$(grep -n -m 1 '^ \*/' dnstap.h | cut -d: -f1)\" -lt \
    \"\$((\$(grep -n '^ \* MACROS' dnstap.h | cut -d: -f1) + 45))\" ]"

# ---- the README's programs: the first logs a message, the second is a sink ----
program() { # the N-th, with a socket of ours
    awk -v n="$1" '/^```c$/ { on = ++i == n; next } /^```$/ { on = 0 } on' README.md |
        sed "s|/tmp/dnstap.sock|$out/socket|"
}
program 1 >"$out/producer.c"
program 2 >"$out/sink.c"

# The manual's is the first of them, without comments, which can't stand in a comment.
awk '/^ \* QUICK START/ { on = 1; next } /^ \* [A-Z][A-Z]/ { on = 0 } on' dnstap.h |
    sed -e 's/^ \* \{0,3\}//' -e "s|/tmp/dnstap.sock|$out/socket|" >"$out/quick_start.c"
code() { # FILE: without comments, white space folded
    sed -E 's#/\*([^*]|\*+[^*/])*\*+/##g; s/[[:space:]]+/ /g; s/ $//; /^$/d' "$out/$1"
}
folded() { tr -s '\n' ' ' <"$1"; }
same_code() { # FILE FILE
    code "$1" >"$out/one" && code "$2" >"$out/other" && grep dnstap_log "$out/one" >/dev/null &&
        { [ "$(folded "$out/one")" = "$(folded "$out/other")" ] || diff "$out/one" "$out/other"; }
}
check "the manual's program is the README's" same_code quick_start.c producer.c
for compiler in gcc clang g++ clang++; do
    case $compiler in *++) flags=$cpp ;; *) flags=$c ;; esac
    for source in quick_start producer sink; do
        check "$source.c with $compiler" \
            $compiler $flags "$out/$source.c" -o "$out/$source" $libs
    done
done
built dnstap || exit 1
rm -f "$out/socket"
background "$build/dnstap" -u "$out/socket" -q >"$out/collected" 2>"$out/tool.log"
wait_for 10 [ -S "$out/socket" ]
check "the manual's program ends well" timeout 10 "$out/quick_start"
check 'and a collector has its message' wait_for 10 grep -q ' CQ .* 17b "\." IN NS' "$out/collected"
stop_all

check 'the sink has 25 lines at most' [ "$(wc -l <"$out/sink.c")" -le 25 ]
for switch in '' -DDNSTAP_NO_THREADS; do
    with="${switch:+, $switch}"
    check "a program that logs$with" gcc $c $switch "$out/producer.c" -o "$out/producer" $libs
    check "a program that logs, C++$with" g++ $cpp $switch -fsyntax-only "$out/producer.c"
    check "a sink, C++$with" g++ $cpp $switch -fsyntax-only "$out/sink.c"
    check "a sink$with" gcc $c $switch "$out/sink.c" -o "$out/sink" $libs
    rm -f "$out/socket"
    "$out/producer" 2>"$out/said"
    check "without a collector it fails$with" [ $? = 1 ]
    check 'it says why: there is no socket' grep -q 'socket.*No such file' "$out/said"
    background stdbuf -oL "$out/sink" >"$out/received"
    wait_for 10 [ -S "$out/socket" ]
    check "with one it does not$with" timeout 10 "$out/producer"
    check 'the sink prints the message' wait_for 10 grep -q 'type 5 ' "$out/received"
    stop_all
done

finish
