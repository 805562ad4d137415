#!/bin/sh
# Runs the benchmark for a moment: it must work, what was accepted must arrive, and no row may be
# missing. Times are not looked at.
# usage: tests/bench/bench_test.sh [BUILD]
. "$(dirname "$0")/../harness.sh"
chained=yes

rm -f "$build/bench/smoke.json"
check 'every message that was accepted arrived' env BENCH=smoke tests/bench/run "$build"

absent=
for name in log log_full log_memcpy log_instructions unix_cpu unix_rate tcp_cpu tcp_rate \
    capture_rate drop_delivered paced_cpu_20k paced_cpu_500k paced_p99_500k first_after_idle \
    idle_wakeups threads_2 extra disabled filtered \
    decode decode_bundle memory loop_poll loop_epoll \
    loop_threads loop_syscalls loop_syscalls_epoll loop_syscalls_idle loop_clocks \
    listen_1 listen_4 listen_16 listen_log read_quiet read_exact; do
    grep -q "\"name\": \"$name\", .*\"ours\": -\{0,1\}[0-9]" "$build/bench/smoke.json" ||
        absent="$absent $name"
done
if [ "$absent" = ' decode_bundle' ] && grep -q '^decode_bundle.*skip' "$build/bench/rows"; then
    skip 'nanopb bundled' 'its sources are not to be had'
    absent=
fi
check "all figures were taken$absent" [ -z "$absent" ]
finish
