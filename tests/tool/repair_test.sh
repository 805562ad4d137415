#!/bin/sh
# dnstap --repair: of a file that was damaged at random places all whole frames are kept, and none
# is invented; what it says, and what it refuses. usage: tests/tool/repair_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/tool/lib.sh
knot=$data/knot-3.2.6-auth.fstrm
kdig=$data/kdig-3.2.6-tool.fstrm
damage=$dir/damage
${CC:-cc} -std=c99 -O2 -I. -o "$damage" tests/tool/damage.c || exit 1
rounds=$([ "${TEST_LONG:-}" ] && echo 2000 || echo 60)

repair() { # STATUS IN: to $dir/whole
    rm -f "$dir/whole"
    exits "$1" "$tool" --repair "$2" "$dir/whole" 2>"$dir/said" || { cat "$dir/said"; return 1; }
}
says_all() { # TEXT...
    for text; do
        grep -q -e "^dnstap: .*$text" "$dir/said" || { cat "$dir/said"; return 1; }
    done
}
kept() { says_all "frames kept: $1; bytes skipped: $2, in places: $3\$"; }

# ---- damaged at random ----

property() { # FILE
    seed=1
    while [ $seed -le $rounds ]; do
        "$damage" make "$1" $seed "$dir/damaged" >"$dir/places" || return 1
        rm -f "$dir/whole"
        "$tool" --repair "$dir/damaged" "$dir/whole" 2>"$dir/said" # 1 where nothing is left
        [ $? -le 1 ] && says_all 'frames kept: ' &&
            "$damage" check "$1" "$dir/damaged" "$dir/whole" <"$dir/places" >"$dir/kept" ||
            { echo "seed $seed" && cat "$dir/kept" && return 1; }
        [ $seed != 7 ] || is_readable || return 1
        seed=$((seed + 1))
    done
}
is_readable() { # by others, as many frames as were kept
    frames=$(sed -n 's/.*frames kept: \([0-9]*\);.*/\1/p' "$dir/said")
    fstrm_dump "$dir/whole" >"$dir/read" 2>&1 && dnstap-read "$dir/whole" >"$dir/lines" &&
        [ "$(grep -c . "$dir/lines")" = "$frames" ] &&
        "$tool" -r "$dir/whole" 2>&1 >"$dir/read" | { ! grep .; } &&
        [ "$(grep -c . "$dir/read")" = "$frames" ]
}
for file in "$large" "$knot" "$kdig"; do
    check "all whole frames of $(basename "$file" .fstrm), damaged at random, are kept" \
        property "$file"
done

# ---- kinds of damage ----

check 'a file that is whole stays as it is' eval 'repair 0 "$large" && cmp "$dir/whole" "$large" &&
    kept 22576 0 0'
check 'a file without START gets one' eval 'tail -c +43 "$knot" >"$dir/in" &&
    repair 0 "$dir/in" && cmp "$dir/whole" "$knot" && kept 134 0 0'
check 'a file without STOP gets one' eval 'head -c -12 "$knot" >"$dir/in" &&
    repair 0 "$dir/in" && cmp "$dir/whole" "$knot" && kept 134 0 0'
cut() {
    head -c 5000 "$large" >"$dir/in" && repair 0 "$dir/in" && says_all 'bytes [0-9]* to 4999: ' &&
        is_readable && "$tool" -r "$dir/in" 2>/dev/null | cmp - "$dir/read"
}
check 'of a file that is cut all but the last frame is kept' cut
check 'streams one behind the other become one' eval 'cat "$knot" "$kdig" >"$dir/in" &&
    repair 0 "$dir/in" && is_readable && kept 152 0 0'
zeros() { # a hole, as a crash leaves it
    { head -c 20000 "$large"; head -c 4096 /dev/zero; tail -c +24097 "$large"; } >"$dir/in"
    repair 0 "$dir/in" && says_all 'bytes [0-9]* to [0-9]*: skipped' 'in places: 1$' && is_readable
}
check 'a hole is passed over' zeros
garbage_before() {
    { printf 'HTTP/1.0 200 OK\r\n\r\n'; cat "$knot"; } >"$dir/in"
    repair 0 "$dir/in" && cmp "$dir/whole" "$knot" && says_all 'bytes 0 to 18: skipped'
}
check 'what is before the stream is passed over' garbage_before
# A frame inside a message of a frame whose length is damaged is not taken for one.
nested() {
    inner='\0\0\0\012\162\6\10\1\20\1\30\1\170\1'
    {
        head -c 42 "$knot"
        printf "$inner"
        printf '\377\377\0\047\162\43\10\1\122\37'
        printf "xx$inner$inner"'y'
        printf '\170\1'
        printf "$inner"
    } >"$dir/in"
    repair 0 "$dir/in" && kept 2 43 1
}
check 'what is inside of a damaged frame is not taken for frames' nested
check 'an undecodable frame is left out' eval '
    repair 0 "$bad/p02-missing-message-type.fstrm" && is_readable && kept 2 "[0-9]*" 1'
check 'a compressed file is repaired, too' eval 'gzip -c "$large" >"$dir/in.gz" &&
    repair 0 "$dir/in.gz" && cmp "$dir/whole" "$large"'
cut_gz() {
    gzip -c "$large" | head -c 50000 >"$dir/in.gz"
    repair 1 "$dir/in.gz" && says_all 'ends inside its compressed data' && is_readable &&
        [ "$frames" -gt 1000 ]
}
check 'of one that is cut what can be decompressed is kept' cut_gz
check 'standard input is repaired' eval '"$tool" --repair - "$dir/from" <"$knot" 2>"$dir/said" &&
    cmp "$dir/from" "$knot"'

# ---- refused ----

check 'what holds no frame is a failure' eval 'repair 1 Makefile && kept 0 "[0-9]*" 1'
check 'an empty file is empty repaired' eval ': >"$dir/in" && repair 0 "$dir/in" &&
    [ "$(wc -c <"$dir/whole")" = 54 ]'
check 'a file that is not there is said' says 1 "$dir/none: No such file" --repair "$dir/none" \
    "$dir/whole2"
check 'what is there is not written over' eval 'cp "$kdig" "$dir/kept" &&
    says 1 "$dir/kept: is there already" --repair "$knot" "$dir/kept" && cmp "$kdig" "$dir/kept"'
check 'but with --overwrite' eval 'cp "$kdig" "$dir/kept" &&
    "$tool" --overwrite --repair "$knot" "$dir/kept" 2>/dev/null && cmp "$knot" "$dir/kept"'
check 'the damaged file is not written over' eval 'cp "$knot" "$dir/kept" &&
    says 1 "$dir/kept: is the damaged file" --overwrite --repair "$dir/kept" "$dir/kept" &&
    cmp "$knot" "$dir/kept"'
check 'one file alone is wrong usage' says 2 '--repair: needs two values' --repair "$knot"
check 'an input besides is wrong usage' says 2 '--repair: ' --repair "$knot" "$dir/x" -r "$knot"

# ---- hostile ----

# At each place begins what might be a frame, over fields without number; the work must not grow
# with the square of the size.
repeated() { # TEXT
    printf "$1%.0s" $(seq 1000) >"$dir/some"
    for _ in $(seq "$((1000000 / ($(wc -c <"$dir/some"))))"); do cat "$dir/some"; done >"$dir/in"
    timeout 60 "$careful" --repair "$dir/in" "$dir/hostile" --overwrite 2>"$dir/said"
    [ $? -le 1 ] && says_all 'frames kept: '
}
tiny='\0\0\0\010\162\4\10\1\20\1\170\1'
check 'lengths that lead far cost little' repeated "$tiny"'\0\017\377\377\10\1\10\1\10\1\10\1'
check 'lengths at each place cost little' repeated '\0\0\100\10'
check 'fields without end cost little' repeated '\10\1'
check 'frames in frames cost little' repeated '\0\017\0\030'"$tiny$tiny$tiny$tiny$tiny"
for file in "$bad"/*.fstrm; do
    rm -f "$dir/hostile"
    "$careful" --repair "$file" "$dir/hostile" 2>"$dir/said"
    [ $? -le 1 ] && grep -q 'frames kept' "$dir/said" || not_ok "$(basename "$file") is survived"
done
ok 'all malformed files are survived'

finish
