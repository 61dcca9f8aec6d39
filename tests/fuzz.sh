#!/usr/bin/env bash
# fuzz.sh SECONDS PROGRAM...   Runs each libFuzzer program for so long, JOBS (2) at a time.
# tests/corpus/NAME is read; what is found new goes to build/fuzz/corpus-NAME, crashing inputs to
# build/fuzz/NAME-crash-... To keep a find, copy it to tests/corpus/NAME: `make test` replays it.
set -u
seconds=$1
shift
: "${JOBS:=2}"
mkdir -p build/fuzz

one() {
    local program=$1 name=${1##*/fuzz_} options=()
    local log=build/fuzz/$name.log
    mkdir -p "build/fuzz/corpus-$name"
    local corpora=("build/fuzz/corpus-$name")
    [ -d "tests/corpus/$name" ] && corpora+=("tests/corpus/$name")
    [ -f "tests/corpus/$name.dict" ] && options+=("-dict=tests/corpus/$name.dict")
    if "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$name-" "${options[@]}" "${corpora[@]}" >"$log" 2>&1 </dev/null; then
        local runs
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "ok   fuzz $name, $seconds s, ${runs:-?} runs"
    else
        echo "FAIL fuzz $name, see $log"
        tail -n 40 "$log" | sed 's/^/     /'
        return 1
    fi
}

failed=0
for program in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do
        wait -n || failed=1
    done
    one "$program" &
done
while [ -n "$(jobs -p)" ]; do
    wait -n || failed=1
done
exit $failed
