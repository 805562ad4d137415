#!/bin/bash
# Forked children that log, each way of examples/children.c, live into fstrm_capture: every message
# comes, also when there is no collector at first, or none for a while; and into a file.
# usage: tests/interop/children_test.sh [BUILD [PART-OF-A-TEST'S-NAME]]
. "$(dirname "$0")/../harness.sh"
type=protobuf:dnstap.Dnstap
evidence=$dir/log
before_each() { rm -rf "${dir:?}"/*; }

# ---- what the tests are written with ----

collect() { # NAME: from now on, into the file of that name
    background fstrm_capture -t $type -u "$dir/s" -w "$dir/$1" >>"$dir/log" 2>&1 3>&-
    collector=$pid
    wait_for 5 test -S "$dir/s"
}
leave() { # the collector does, and has written all that it has read
    kill "$collector" && wait "$collector" 2>/dev/null
    rm -f "$dir/s"
}
names() { # FIRST LAST
    seq -f 'name%05g.example' "$1" "$2"
}
begin() { # relay|own ENDPOINT: $children reads names from descriptor 3
    rm -f "$dir/names"
    mkfifo "$dir/names"
    exec 3<>"$dir/names"
    # shellcheck disable=SC2016 # these are that shell's
    background sh -c 'exec "$0" "$1" "$2" <"$3"' "$build/children" "$1" "$2" "$dir/names" \
        >"$dir/said" 2>>"$dir/log" 3>&-
    children=$pid
}
end() { exec 3>&-; wait "$children"; }
read_all() { for file; do "$build/dnstap" -r "$file"; done; }
came() { # COUNT FILE: at least so many messages
    [ "$(read_all "$2" | wc -l)" -ge "$1" ]
}
complete() { # LAST FILE...: query and response of each name, once
    read_all "${@:2}" | sed -E 's/.* (CQ|CR) .*"?(name[0-9]+)\.example.*/\1 \2/' | sort >"$dir/got"
    for kind in CQ CR; do names 1 "$1" | sed "s/^/$kind /; s/\.example//"; done | sort >"$dir/want"
    cmp "$dir/want" "$dir/got" || { wc -l "$dir/want" "$dir/got" && false; }
}
counted() { # LOGGED: by the parent, and none of it lost
    grep -q -x "logged $1, sent $1, dropped 0" "$dir/said" || { cat "$dir/said" && false; }
}
live() { # "NAME" FUNCTION [ARGUMENT...]: one test
    if why=$(missing fstrm_capture); then skip "$1" "$why"; else check "$@"; fi
}
built children dnstap

# ---- tests ----

every_message() { # relay|own PARENT'S
    collect all || return
    names 1 400 | "$build/children" "$1" "unix://$dir/s" >"$dir/said" 2>>"$dir/log" || return
    leave
    complete 400 "$dir/all" && counted "$2"
}
no_collector_at_first() { # relay|own PARENT'S
    begin "$1" "unix://$dir/s"
    names 1 60 >&3
    wait_for 5 grep -q 'No such file' "$dir/log" || return
    collect all || return
    end || return
    leave
    complete 60 "$dir/all" && counted "$2"
}
no_collector_for_a_while() { # relay|own PARENT'S
    background "$build/dnstap" -u "$dir/s" -w "$dir/first" >>"$dir/log" 2>&1 # shows what it has
    collector=$pid
    wait_for 5 test -S "$dir/s" || return
    begin "$1" "unix://$dir/s"
    names 1 60 >&3
    wait_for 10 came 120 "$dir/first" || return
    leave
    wait_for 5 grep -q 'closed by the sink' "$dir/log" || return
    names 61 120 >&3
    collect second || return
    end || return
    leave
    complete 120 "$dir/first" "$dir/second" && counted "$2"
}
into_a_file() {
    names 1 100 | "$build/children" relay "file://$dir/all" >"$dir/said" || return
    complete 100 "$dir/all" && counted 200
}
for way in 'relay 800' 'own 400'; do
    # shellcheck disable=SC2086 # two words
    live "$way: every message of 400 children comes" every_message $way
done
for way in 'relay 120' 'own 60'; do
    # shellcheck disable=SC2086
    live "$way: every message comes, without a collector at first" no_collector_at_first $way
done
for way in 'relay 240' 'own 120'; do
    # shellcheck disable=SC2086
    live "$way: every message comes, without a collector for a while" \
        no_collector_for_a_while $way
done
live 'relay: every message of 100 children is in a file' into_a_file
finish
