#!/usr/bin/env bash
# run.sh PROGRAM... [--examples] [--replay PROGRAM...] [--command "COMMAND"...]
# Runs cmocka programs, then tests/run_examples.sh, then fuzz targets over their corpus, or whatever commands are
# given; JOBS (1) at a time: most of them wait more than they compute. The output of each is shown unfiltered when
# it has ended, in the order in which they are given. Goes on after a failure. Ends with one line of totals:
#     N passed, N failed, N skipped
# TEST_SECONDS (120) is the time one program may take. RUN_AGAIN=1: a program of which tests fail, without a crash,
# has a second run at the end, when nothing else runs: other work on a shared machine ruins a measure of time. Both
# runs are shown, and the last line but one names the program. Run from the top of the repository.
set -u
: "${TEST_SECONDS:=120}" "${BUILD:=build}" "${JOBS:=1}"
export BUILD
passed=0 failed=0 skipped=0
mkdir -p "$BUILD"
work=$(mktemp -d "$BUILD/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
kinds=() names=() shown=0 again=()

# Sums the numbers of cmocka's summary lines of one kind: "[  PASSED  ] 3 test(s)."
sum() { # sum KIND LOG
    sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$2" | awk '{ n += $1 } END { print n + 0 }'
}

# Runs a command for at most TEST_SECONDS, its output and status to files. What is left of the command's process
# group is ended: a fake provider that a crashed test leaves behind. (timeout makes the group; its number is
# timeout's own.)
limited() { # limited LOG COMMAND...
    local log=$1
    shift
    timeout -k 5 "$TEST_SECONDS" "$@" >"$log" 2>&1 </dev/null &
    local pid=$!
    wait $pid
    echo $? >"$log.part"
    kill -KILL -- -$pid 2>/dev/null
    mv "$log.part" "$log.status"
}

one_test() { # one_test PROGRAM STATUS LOG
    local status=$2 p f s
    p=$(sum PASSED "$3") f=$(sum FAILED "$3") s=$(sum SKIPPED "$3")
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

# Something that is not a cmocka program.
one_other() { # one_other NAME STATUS LOG
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

# Of the program that is to be shown. 124: its time was up; 126 and more: it was not started, or a signal ended it.
may_run_again() { # may_run_again STATUS
    [ "${RUN_AGAIN:-}" = 1 ] && [ "${kinds[$shown]}" = one_test ] && [ "$1" -gt 0 ] && [ "$1" -lt 124 ] &&
        [ "$(sum FAILED "$work/$shown")" -gt 0 ]
}

# Shows those that have ended, as far as no earlier one still runs.
show() {
    local log=$work/$shown
    while [ "$shown" -lt ${#names[@]} ] && [ -e "$log.status" ]; do
        [ "${kinds[$shown]}" = one_test ] && echo "== ${names[$shown]}"
        cat "$log"
        if may_run_again "$(cat "$log.status")"; then
            again+=("${names[$shown]}")
        else
            "${kinds[$shown]}" "${names[$shown]}" "$(cat "$log.status")" "$log"
        fi
        shown=$((shown + 1)) log=$work/$shown
    done
}

start() { # start KIND NAME COMMAND...
    local log=$work/${#names[@]}
    kinds+=("$1") names+=("$2")
    shift 2
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n; done
    show
    limited "$log" "$@" &
}

start_replay() {
    local name=${1##*/fuzz_}
    local files=(tests/corpus/"$name"/*)
    if [ ! -e "${files[0]}" ]; then
        echo "skip replay $name: tests/corpus/$name is empty"
        skipped=$((skipped + 1))
        return
    fi
    start one_other "replay $name (${#files[@]} files)" "$1" tests/corpus/"$name"
}

mode=test
for argument in "$@"; do
    case $argument in
    --examples) [ ! -e tests/run_examples.sh ] || start one_other examples bash tests/run_examples.sh ;;
    --test | --replay | --command) mode=${argument#--} ;;
    *)
        # RUNNER is a command put before a test (valgrind, setarch).
        case $mode in
        test) start one_test "$argument" ${RUNNER:-} "$argument" ;;
        replay) start_replay "$argument" ;;
        command) start one_other "$argument" $argument ;;
        esac
        ;;
    esac
done
while [ "$shown" -lt ${#names[@]} ]; do
    if [ ! -e "$work/$shown.status" ] && [ -z "$(jobs -rp)" ]; then
        echo 137 >"$work/$shown.status" # somebody killed what was to write it
    elif [ ! -e "$work/$shown.status" ]; then
        wait -n
    fi
    show
done

for name in ${again[@]+"${again[@]}"}; do
    echo "== $name, a second run"
    limited "$work/again" ${RUNNER:-} "$name"
    cat "$work/again"
    one_test "$name" "$(cat "$work/again.status")" "$work/again"
done
[ ${#again[@]} -eq 0 ] || echo "had a second run, since tests of it failed at the first: ${again[*]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
