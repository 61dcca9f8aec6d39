#!/usr/bin/env bash
# run.sh PROGRAM... [--examples] [--replay PROGRAM...]
# Runs cmocka programs one after the other, their output unfiltered, then tests/run_examples.sh, then
# fuzz targets over their corpus. Goes on after a failure. Ends with one line of totals:
#     N passed, N failed, N skipped
# TEST_SECONDS (120) is the time one program may take. Run from the top of the repository.
set -u
: "${TEST_SECONDS:=120}" "${BUILD:=build}"
export BUILD
passed=0 failed=0 skipped=0
mkdir -p "$BUILD"
log=$(mktemp "$BUILD/run.XXXXXX")
trap 'rm -f "$log"' EXIT

# Sums the numbers of cmocka's summary lines of one kind: "[  PASSED  ] 3 test(s)."
sum() {
    sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'
}

# Runs a command for at most TEST_SECONDS, its output to the log and the terminal. Not through a pipe:
# a fake provider that a crashed test leaves behind would hold it open. What is left of the command's
# process group is ended. (timeout makes the group; its number is timeout's own.)
limited() {
    : >"$log"
    timeout -k 5 "$TEST_SECONDS" "$@" >"$log" 2>&1 </dev/null &
    local pid=$!
    tail -n +1 -f -s 0.1 --pid=$pid "$log" 2>/dev/null
    wait $pid
    local status=$?
    kill -KILL -- -$pid 2>/dev/null
    return $status
}

one_test() {
    echo "== $1"
    # RUNNER is a command put before the program (valgrind, setarch).
    limited ${RUNNER:-} "$1"
    local status=$? p f s
    p=$(sum PASSED) f=$(sum FAILED) s=$(sum SKIPPED)
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        echo "$1: stopped after $TEST_SECONDS s"
    elif [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        echo "$1: ended with status $status without reporting a failed test"
    elif [ "$status" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then
        echo "$1: ran no test"
        status=1
    fi
    # A crash or a sanitizer's report counts as one failure.
    [ "$status" -ne 0 ] && [ "$f" -eq 0 ] && f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# count NAME STATUS: counts something that is not a cmocka program.
count() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

one_replay() {
    local name=${1##*/fuzz_}
    local files=(tests/corpus/"$name"/*)
    if [ ! -e "${files[0]}" ]; then
        echo "skip replay $name: tests/corpus/$name is empty"
        skipped=$((skipped + 1))
        return
    fi
    limited "$1" tests/corpus/"$name"
    count "replay $name (${#files[@]} files)" $?
}

mode=one_test
for argument in "$@"; do
    case $argument in
    --examples)
        if [ -e tests/run_examples.sh ]; then
            echo "== examples"
            limited bash tests/run_examples.sh
            count "examples" $?
        fi
        ;;
    --replay) mode=one_replay ;;
    *) "$mode" "$argument" ;;
    esac
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
