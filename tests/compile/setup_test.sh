#!/bin/sh
# tests/setup, with stubs for what it calls: what it says, installs, and leaves behind.
# usage: tests/compile/setup_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
. tests/compile/lib.sh
policy=$out/root/usr/sbin/policy-rc.d

# A machine: it has what is in $out/bin, and notes in $out/calls what was called.
stub() { # NAME LINE...
    stub_name=$out/bin/$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"$stub_name"
    chmod 755 "$stub_name"
}
note='echo "${0##*/} $*" >>"$CALLS"'
machine() { # an empty one, without systemd
    rm -rf "$out/bin" "$out/root"
    mkdir -p "$out/bin" "$out/root/usr/sbin"
    for tool in sh sed rm chmod grep; do ln -s "$(command -v $tool)" "$out/bin/$tool"; done
    : >"$out/calls"
    stub id 'echo 0'
    stub dpkg-query 'case "$*" in *${INSTALLED-nothing}*) echo installed ;; *) exit 1 ;; esac'
    stub update-rc.d "$note"
    stub apt-get "$note" 'case "$*" in
        *--assume-no*) echo "Need to get 123 MB of archives." && exit 1 ;;
        *--simulate*) exit 0 ;;
        esac' "[ ! -x $policy ] || echo policy >>\"\$CALLS\"" 'exit ${STATUS-0}'
}
setup() { env PATH="$out/bin" CALLS="$out/calls" SETUP_ROOT="$out/root" "$@" tests/setup test \
    >"$out/said" 2>&1; }
called() { grep -q -x -e "$1" "$out/calls"; }

machine
check 'what is missing is installed' setup
check 'apt-get installs unbound' grep -q '^apt-get install .* unbound ' "$out/calls"
check 'the packages are named before' sh -c "grep -m 1 -E 'to install|apt-get install' $out/said |
    grep -q 'to install.* unbound '"
check 'and how much that is' grep -q 'setup:   Need to get 123 MB' "$out/said"
check 'no daemon is started meanwhile' called policy
check 'the policy is gone afterwards' [ ! -e "$policy" ]
for daemon in unbound named knot dnsdist; do
    check "without systemd, $daemon is disabled" called "update-rc.d $daemon disable"
done

machine
stub systemctl "$note"
check 'with systemd' setup
check 'named is disabled' called 'systemctl disable named'

machine
check 'where BIND is installed already' setup INSTALLED=bind9
check 'it stays enabled' sh -c "! grep named $out/calls"
check 'another is disabled' called 'update-rc.d knot disable'

machine
echo theirs >"$policy"
check 'on a machine with a policy of its own' setup
check 'that stays' grep -q theirs "$policy"

machine
check 'when apt-get fails, setup fails' sh -c "! env PATH=$out/bin CALLS=$out/calls STATUS=1 \
    SETUP_ROOT=$out/root tests/setup test >/dev/null 2>&1"
check 'and daemons are disabled all the same' called 'update-rc.d named disable'
check 'and the policy is gone' [ ! -e "$policy" ]

finish
