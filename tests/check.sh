#!/usr/bin/env bash
# check.sh [STEP...]   Everything that `make check` insists on, one line each: "ok   what" or "FAIL what"
# with the end of its log (all logs: build/check/). Steps, in order; without arguments, all of them:
#
#   lint      the house rules of the header (tests/lint.py)
#   format    clang-format changes nothing
#   rules     short examples, the top level of the repository, no unfinished business
#   matrix    gcc and clang, all C and C++ standards, no warnings
#   orders    whatever is included before or after, once or twice, in one file or two
#   symbols   no name escapes without its prefix
#   dialects  each dialect can be left out
#   sanitize  all tests under address, undefined-behaviour and thread sanitizers, and valgrind
#   sim       simulated worlds (tests/sim.c), other ones each day: at least 500, for CHECK_SIM_SECONDS (110),
#             and a few under the sanitizers
#   fuzz      each fuzz target for CHECK_FUZZ_SECONDS (6)
#
# Variables: TSAN_TESTS, VALGRIND_TESTS (names as "test_json test_frame"; below are the defaults),
# JOBS (2: compilers at a time). Run from the top of the repository.
set -u
export LC_ALL=C
: "${JOBS:=2}" "${CHECK_FUZZ_SECONDS:=6}" "${CHECK_SIM_SECONDS:=110}"

all_tests() { for t in tests/test_*.c; do [ -e "$t" ] && basename "$t" .c; done; }
# Unit tests: no sockets.
unit_tests() {
    for t in tests/test_*.c; do [ -e "$t" ] && ! grep -qE 'testing\.h|killing\.h|spending\.h' "$t" && basename "$t" .c; done
}
# Those of parts: they open no gateway, so that a compiler drops most of the header (gcc: from -O1).
part_tests() {
    for t in $(unit_tests); do grep -qE 'llmgw_open|LLMGW_NO_STORE' "tests/$t.c" || echo "$t"; done
}
# Valgrind is 20 times slower: unit tests, and two over sockets that neither fork a child of their own nor time anything;
# without those of the store, which fork, and one of which mounts a file system.
fast_tests() { # without what computes for long, forks, or is a variant of another
    unit_tests | grep -vE '^test_(schema|ledger$|auth$|store|calibrate|index|drift|cache$|cache_sealed|cache_faults|cache_collisions)'
    echo test_secrets test_tls
}
# Thread sanitizer: whatever talks over sockets; of the unit tests those that have more than one thread.
thread_tests() {
    for t in tests/test_*.c; do [ -e "$t" ] && grep -q testing.h "$t" && basename "$t" .c; done
        echo test_store test_index
}
: "${TSAN_TESTS=$(thread_tests)}" "${VALGRIND_TESTS=$(fast_tests)}"

WARN="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wvla -Werror"
WARN_C="$WARN -Wstrict-prototypes -Wmissing-prototypes"
LIBS="-Wl,--as-needed -lcurl -llmdb -lxxhash -lpthread -lm -lsodium" # the last for LLMGW_SODIUM only
OUT=build/check
ROOT=$PWD
passed=0 failed=0
rm -rf "$OUT"
mkdir -p "$OUT/src"

# ---- running jobs, JOBS at a time, and reporting them in the order they were given ----

names=() pids=()
job() { # job NAME COMMAND...: starts it in the background; its log and status go to files
    local number=${#names[@]}
    names+=("$1")
    shift
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n; done
    { "$@" >"$OUT/$number.log" 2>&1 </dev/null; echo $? >"$OUT/$number.status"; } &
    pids+=($!)
}

report() { # waits for all jobs and prints them
    [ ${#pids[@]} -gt 0 ] && wait "${pids[@]}"
    pids=()
    local number
    for number in "${!names[@]}"; do
        result "${names[$number]}" "$(cat "$OUT/$number.status")" "$OUT/$number.log"
    done
    names=()
}

SECOND_RUN="== that failed: a second run"

result() { # result NAME STATUS LOG
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1$(grep -qxF "$SECOND_RUN" "$3" && echo " (at its second run)")"
    else
        failed=$((failed + 1))
        mkdir -p "$OUT/failed"
        local kept="$OUT/failed/${1//[^A-Za-z0-9+.-]/_}.log"
        cp "$3" "$kept"
        echo "FAIL $1    ($kept)"
        tail -n "${LOG_LINES:-30}" "$3" | sed 's/^/     | /'
    fi
}

now() { job "$@"; report; }

# ---- small sources, made here so that each can be read beside its test ----

source_file() { # source_file NAME: writes stdin to $OUT/src/NAME
    cat >"$OUT/src/$1"
}

make_sources() {
    source_file declare.c <<<'#include "llmgw.h"
int main(void) { return LLMGW_OK; }'
    source_file implement.c <<<'#define LLMGW_IMPLEMENTATION
#include "llmgw.h"'
    source_file use.c <<<'#include "llmgw.h"
int main(void) {
    llmgw_error error;
    llmgw_options options = LLMGW_TEST_ZERO;
    options.no_environment = true;
    options.config_json = "{}";
    llmgw *gw = llmgw_open(&options, &error);
    llmgw_reply *reply = llmgw_ask(gw, "nobody/nothing", "?");
    int bad = !gw || !reply->error.code || !reply->text;
    llmgw_reply_free(reply);
    return (bad || llmgw_close(gw)) ? 1 : 0;
}'
    for name in declare implement use; do cp "$OUT/src/$name.c" "$OUT/src/$name.cpp"; done
}

ZERO_C='-DLLMGW_TEST_ZERO={0}'
ZERO_CXX='-DLLMGW_TEST_ZERO={}'

# ---- steps ----

step_lint() {
    now "lint: its self-test" tests/lint.py --self-test
    now "lint: llmgw.h" tests/lint.py
    sed -n '/ functions; /s/^/     /p' "$OUT/0.log"
}

step_format() {
    LOG_LINES=10 now "format: clang-format changes nothing" make --no-print-directory format-check
}

sources() { # the files that the words rule is about
    if git ls-files --error-unmatch llmgw.h >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard
    else
        find . -type f -not -path './.git/*' -not -path './build/*' -not -path '*/node_modules/*' \
            -not -path '*/venv/*' | sed 's,^\./,,'
    fi | grep -E '\.(c|h|cpp)$|(^|/)(Makefile|README\.md)$'
}

no_unfinished() {
    local files
    mapfile -t files < <(sources)
    ! { grep -nHE '\b(TODO|FIXME|XXX|HACK)\b' "${files[@]}"
        grep -nHiwE 'stub|stubs|stubbed|placeholder|placeholders|not implemented' "${files[@]}"; } | grep .
}

short_examples() {
    awk 'FNR == 1 && NR > 1 && n > 60 { print f ": " n " lines"; bad = 1 } { f = FILENAME; n = FNR }
         END { if (n > 60) { print f ": " n " lines"; bad = 1 } exit bad }' examples/*.c examples/*.cpp
}

top_level() {
    local want="LICENSE Makefile README.md bench examples llmgw.h tests"
    local have
    have=$(git ls-files --cached --others --exclude-standard | cut -d/ -f1 | grep -v '^\.' | sort -u | xargs)
    [ "$have" = "$want" ] || { echo "have: $have"; echo "want: $want"; return 1; }
}

step_rules() {
    shopt -s nullglob
    now "rules: no example is longer than 60 lines" short_examples
    now "rules: the top level of the repository" top_level
    now "rules: no unfinished business in the sources" no_unfinished
    shopt -u nullglob
}

step_matrix() {
    local std cc
        local level # some warnings need the optimizer, which takes its time: one standard of each compiler
    for cc in gcc clang; do
        level=-O2
        for std in c99 c11 c17 gnu11; do
            job "matrix: $cc -std=$std, declarations" $cc -std=$std $WARN_C -I. -c "$OUT/src/declare.c" -o /dev/null
            job "matrix: $cc -std=$std, implementation" \
                                $cc -std=$std $WARN_C $level -I. -c "$OUT/src/implement.c" -o /dev/null
            level=-O0
        done
    done
        for cc in g++ clang++; do
        level=-O2
        for std in c++11 c++14 c++17 c++20; do
            job "matrix: $cc -std=$std, declarations" $cc -std=$std $WARN -I. -c "$OUT/src/declare.cpp" -o /dev/null
            job "matrix: $cc -std=$std, implementation" \
                                $cc -std=$std $WARN $level -I. -c "$OUT/src/implement.cpp" -o /dev/null
            level=-O0
        done
    done
    local flag
    for flag in LLMGW_SODIUM LLMGW_NO_STORE; do # the outermost compilers only
        job "matrix: gcc -std=c99 -D$flag, implementation" \
            gcc -std=c99 $WARN_C -O2 -D$flag -I. -c "$OUT/src/implement.c" -o /dev/null
        job "matrix: clang -std=c17 -D$flag, implementation" \
            clang -std=c17 $WARN_C -O0 -D$flag -I. -c "$OUT/src/implement.c" -o /dev/null
        job "matrix: g++ -std=c++11 -D$flag, implementation" \
            g++ -std=c++11 $WARN -O0 -D$flag -I. -c "$OUT/src/implement.cpp" -o /dev/null
        job "matrix: clang++ -std=c++20 -D$flag, implementation" \
            clang++ -std=c++20 $WARN -O0 -D$flag -I. -c "$OUT/src/implement.cpp" -o /dev/null
    done
    report
    now "matrix: LLMGW_NO_STORE links without LMDB and runs" without_lmdb
}

without_lmdb() { # neither its header is read nor its library linked
    gcc -std=gnu11 -DLLMGW_NO_STORE -I. -M "$OUT/src/implement.c" >"$OUT/no_store.d" || return 1
    ! grep lmdb "$OUT/no_store.d" || return 1
    gcc -std=gnu11 -DLLMGW_NO_STORE "$ZERO_C" -I. "$OUT/src/use.c" "$OUT/src/implement.c" -o "$OUT/no_store" \
        -lcurl -lxxhash -lpthread -lm && "$OUT/no_store"
}

# order NAME [FLAGS]: one file, from stdin, compiled as gnu11 and gnu++17, linked and run.
order() {
    local name=$1 file=${1//[^a-z]/_}
    shift
    source_file "order_$file.c"
    echo 'int main(void) { return llmgw_code_name(LLMGW_OK) ? 0 : 1; }' >>"$OUT/src/order_$file.c"
    cp "$OUT/src/order_$file.c" "$OUT/src/order_$file.cpp"
    job "orders: $name (C)" link_and_run "$OUT/order_$file" gcc -std=gnu11 $WARN_C "$@" "$OUT/src/order_$file.c"
    job "orders: $name (C++)" \
        link_and_run "$OUT/order_$file++" g++ -std=gnu++17 $WARN "$@" "$OUT/src/order_$file.cpp"
}

link_and_run() { # link_and_run PROGRAM COMPILER ARGUMENTS...
    local program=$1
    shift
    "$@" -I. -o "$program" $LIBS && "$program"
}

must_fail() { # must_fail PATTERN COMMAND...: it fails, and says PATTERN
    local pattern=$1 text
    shift
    if text=$("$@" 2>&1); then
        echo "did not fail: $*"
        return 1
    fi
    echo "$text"
    grep -qE "$pattern" <<<"$text"
}

objects() { # the implementation and a user of it, in C and C++, as objects
    gcc -std=gnu11 -I. -c "$OUT/src/implement.c" -o "$OUT/impl.o" &&
        g++ -std=gnu++17 -I. -c "$OUT/src/implement.cpp" -o "$OUT/impl++.o" &&
        gcc -std=gnu11 -I. "$ZERO_C" -c "$OUT/src/use.c" -o "$OUT/use.o" &&
        g++ -std=gnu++17 -I. "$ZERO_CXX" -c "$OUT/src/use.cpp" -o "$OUT/use++.o"
}

other_version() { # a user compiled with a header of another version must not link
    mkdir -p "$OUT/other"
    sed -E 's/^(#define llmgw_open llmgw_open_v)[0-9_]+/\199_9/' llmgw.h >"$OUT/other/llmgw.h"
    ! cmp -s llmgw.h "$OUT/other/llmgw.h" || { echo "no renaming #define of llmgw_open found"; return 1; }
    gcc -std=gnu11 -I"$OUT/other" "$ZERO_C" -c "$OUT/src/use.c" -o "$OUT/use_other.o" || return 1
    must_fail 'llmgw_open_v99_9' gcc "$OUT/use_other.o" "$OUT/impl.o" -o "$OUT/other/program" $LIBS
}

# Strict C99 after a system header: feature macros come too late. Clean, or first the documented #error
# (compilers go on after it).
strict_late() {
    local text
    if text=$(gcc -std=c99 $WARN_C -I. -c "$OUT/src/late.c" -o /dev/null 2>&1); then
        echo clean >"$OUT/late"
        return 0
    fi
    echo "$text"
    echo "#error with the cure" >"$OUT/late"
    grep -m 1 'error:' <<<"$text" | grep -q '#error.*_DEFAULT_SOURCE'
}

step_orders() {
    local implement='#define LLMGW_IMPLEMENTATION
#include "llmgw.h"'
    order "stdio.h first" <<<"#include <stdio.h>
$implement"
    order "curl/curl.h first" <<<"#include <curl/curl.h>
$implement"
    order "xxhash.h first" <<<"#include <xxhash.h>
$implement"
    order "xxhash.h first, with XXH_INLINE_ALL" <<<"#define XXH_INLINE_ALL
#include <xxhash.h>
$implement"
    order "lmdb.h first" <<<"#include <lmdb.h>
$implement"
    order "sodium.h first, with LLMGW_SODIUM" -DLLMGW_SODIUM <<<"#include <sodium.h>
$implement"
    order "stdlib.h, curl/curl.h, lmdb.h and xxhash.h after it" <<<"$implement
#include <stdlib.h>
#include <curl/curl.h>
#include <lmdb.h>
#include <xxhash.h>"
    order "the implementation twice" <<<"$implement
#include \"llmgw.h\""
    order "declarations, then the implementation" <<<"#include \"llmgw.h\"
$implement"
    order "declarations twice before and once after" <<<"#include \"llmgw.h\"
#include \"llmgw.h\"
$implement
#undef LLMGW_IMPLEMENTATION
#include \"llmgw.h\""
    report

    now "orders: two files, objects" objects
    job "orders: C implementation, C user" link_and_run "$OUT/two_cc" gcc "$OUT/use.o" "$OUT/impl.o"
    job "orders: C implementation, C++ user" link_and_run "$OUT/two_cx" g++ "$OUT/use++.o" "$OUT/impl.o"
    job "orders: C++ implementation, C user" link_and_run "$OUT/two_xc" g++ "$OUT/use.o" "$OUT/impl++.o"
    job "orders: two implementations do not link" must_fail 'multiple definition' \
        gcc "$OUT/use.o" "$OUT/impl.o" "$OUT/src/implement.c" -std=gnu11 -I. -o "$OUT/two_twice" $LIBS
    job "orders: no implementation does not link" must_fail 'undefined reference' \
        gcc "$OUT/use.o" -o "$OUT/two_none" $LIBS
    job "orders: another version's header does not link" other_version
    source_file late.c <<<"#include <stdio.h>
$implement"
    job "orders: strict c99, stdio.h first, -D_DEFAULT_SOURCE" \
        gcc -std=c99 -D_DEFAULT_SOURCE $WARN_C -I. -c "$OUT/src/late.c" -o /dev/null
    report
    now "orders: strict c99, stdio.h first" strict_late
    echo "     the result was: $(cat "$OUT/late" 2>/dev/null)"
}

only_prefixed() { # only_prefixed COMPILER...: what the implementation's object defines for the linker
    "$@" -I. -c -o "$OUT/symbols_$1.o" || return 1
    # Each public function is declared once in the header and must be there.
    nm -g --defined-only "$OUT/symbols_$1.o" | awk 'NF > 2 { print $3 }' | sort >"$OUT/symbols_$1.txt"
    ! grep -v '^llmgw_' "$OUT/symbols_$1.txt" || { echo "the above have no prefix"; return 1; }
    grep '^LLMGW_API' llmgw.h | sed -nE 's/.*[ *](llmgw_[a-z0-9_]+)\(.*/\1/p' | sort -u |
        sed "s/^llmgw_open\$/$(sed -nE 's/^#define llmgw_open (llmgw_open_v[0-9_]+).*/\1/p' llmgw.h)/" |
        sort -u >"$OUT/declared_$1.txt"
    diff "$OUT/declared_$1.txt" "$OUT/symbols_$1.txt" || { echo "declared (<) and defined (>) differ"; return 1; }
}

only_prefixed_macros() { # only_prefixed_macros COMPILER FLAGS...
    printf '#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n' >"$OUT/src/three.h"
    "$@" -dM -E -x "$LANGUAGE" "$OUT/src/three.h" | sort >"$OUT/macros_before_$1" &&
        "$@" -dM -E -x "$LANGUAGE" llmgw.h | sort >"$OUT/macros_after_$1" || return 1
    ! comm -13 "$OUT/macros_before_$1" "$OUT/macros_after_$1" | grep -vE '^#define (LLMGW_|LLMGW_H\b|llmgw_)'
}

step_symbols() {
    job "symbols: gcc, all prefixed, all there" only_prefixed gcc -std=gnu11 -O2 "$OUT/src/implement.c"
    job "symbols: clang, all prefixed, all there" only_prefixed clang -std=gnu11 -O0 "$OUT/src/implement.c"
    job "symbols: g++, all prefixed, all there" only_prefixed g++ -std=gnu++17 -O0 "$OUT/src/implement.cpp"
    LANGUAGE=c job "symbols: the declarations leave no foreign macro (C)" only_prefixed_macros gcc -std=c11
    LANGUAGE=c++ job "symbols: the declarations leave no foreign macro (C++)" only_prefixed_macros g++ -std=c++17
    report
}

step_dialects() {
    local all="OPENAI ANTHROPIC GEMINI BEDROCK RESPONSES OLLAMA COHERE" one other flags
    for one in $all; do
        job "dialects: without $one (gcc)" \
            gcc -std=c11 $WARN_C -O0 -DLLMGW_NO_$one -I. -c "$OUT/src/implement.c" -o /dev/null
        flags=
        for other in $all; do [ "$other" = "$one" ] || flags="$flags -DLLMGW_NO_$other"; done
        job "dialects: $one alone (clang++)" \
            clang++ -std=c++17 $WARN -O0 $flags -I. -c "$OUT/src/implement.cpp" -o /dev/null
    done
    report
}

# The loop of systems without epoll, here on Linux. (No llmgw_fd there: test_call does not fit.)
step_poll() {
    local t
    now "poll: build" make --no-print-directory build/fake_provider
    for t in failover http kill; do
        job "poll: test_$t over poll(2)" bash -c "gcc -std=gnu11 -O0 -g -DLLMGWI_BASE_FORCE_POLL -I. -Itests \
            tests/test_$t.c -o $OUT/poll_$t $LIBS -lcmocka -ljansson && timeout 120 $OUT/poll_$t"
    done
    report
}

programs() { # programs DIRECTORY NAME...: where the Makefile puts them
    local directory=$1 name
    shift
    for name in "$@"; do echo "$directory/$name"; done
}

build_tests() { # build_tests DIRECTORY COMPILER FLAGS TEST...
    local directory=$1 cc=$2 flags=$3
    shift 3
    [ $# -gt 0 ] || return 0
    make --no-print-directory -k -j"$JOBS" BUILD="$directory" CC="$cc" CFLAGS="$flags" \
        $(programs "$directory" "$@")
}

# Once more where a test failed without a word of the sanitizer: many measure time, and two of these programs, several
# times slower than they are built to be, share the machine. A line says so.
twice() { # twice COMMAND...
    local first status
    first=$("$@" 2>&1)
    status=$?
    printf '%s\n' "$first"
    [ $status -eq 0 ] && return 0
    grep -qE 'ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer|Invalid (read|write)|uninitialised|loss record' \
        <<<"$first" && return $status
    echo "$SECOND_RUN"
    "$@" 2>&1
}

run_tests() { # run_tests WHAT DIRECTORY TEST...: one line each; most wait more than they compute
    local what=$1 directory=$2 name
    shift 2
    for name in "$@"; do
        [ -x "$directory/$name" ] && job "sanitize: $what, $name" twice tests/run.sh "$directory/$name"
    done
    report
}

step_sanitize() {
    export LLMGW_SANITIZED=1 TEST_SECONDS=600
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
    export UBSAN_OPTIONS=print_stacktrace=1
    export TSAN_OPTIONS=halt_on_error=0:exitcode=66:second_deadlock_stack=1
    [ -f tests/lsan.supp ] && export LSAN_OPTIONS=suppressions=$ROOT/tests/lsan.supp:print_suppressions=0
    [ -f tests/tsan.supp ] && TSAN_OPTIONS="$TSAN_OPTIONS:suppressions=$ROOT/tests/tsan.supp"
    local flags="-fno-omit-frame-pointer" address="-fsanitize=address,undefined -fno-sanitize-recover=all" tests
    # The tests start this one, uninstrumented, from build/.
    make --no-print-directory build/fake_provider >/dev/null 2>&1

    # All with clang, which takes a second where gcc takes ten; with gcc's, and optimized, those of parts.
    tests=$(all_tests)
    now "sanitize: build with clang, address and undefined" build_tests build/asan-clang clang "-O0 -g1 $flags $address" $tests
    run_tests "clang address and undefined" build/asan-clang $tests
    tests="$(part_tests) test_call test_routes test_resume"
    now "sanitize: build with gcc, address and undefined" build_tests build/asan-gcc gcc "-O1 -g1 $flags $address" $tests
    run_tests "gcc address and undefined" build/asan-gcc $tests

    # Thread sanitizer cannot live with much address randomization; where setarch may, it is turned off.
    local runner=""
    setarch "$(uname -m)" -R true 2>/dev/null && runner="setarch $(uname -m) -R"
    now "sanitize: build with clang, thread" build_tests build/tsan clang "-O0 -g1 $flags -fsanitize=thread" $TSAN_TESTS
    RUNNER=$runner run_tests "thread" build/tsan $TSAN_TESTS

    now "sanitize: build for valgrind" build_tests build gcc "-O1 -g" $VALGRIND_TESTS
    local valgrind="valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible \
        --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=99"
    [ -f tests/valgrind.supp ] && valgrind="$valgrind --suppressions=tests/valgrind.supp"
    RUNNER=$valgrind run_tests "valgrind" build $VALGRIND_TESTS
}

# One core is enough for it: it goes on beside the next steps, and is reported at the end.
sim_pid="" sim_what=""
step_sim() {
    local first=$(($(date +%s) / 86400 * 100000))
    now "sim: build" make --no-print-directory build/sim
    sim_what="sim: $CHECK_SIM_SECONDS s from seed $first"
    cp build/sim "$OUT/sim"
    { "$OUT/sim" --seeds $first $((first + 99999)) --seconds "$CHECK_SIM_SECONDS" --least 500 \
        >"$OUT/sim.log" 2>&1 </dev/null; echo $? >"$OUT/sim.status"; } &
    sim_pid=$!
    now "sim: build with address and undefined" make --no-print-directory BUILD=build/asan-gcc \
        CFLAGS="-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" build/asan-gcc/sim
    now "sim: 20 worlds under address and undefined" build/asan-gcc/sim --seeds $first $((first + 19))
}

finish_sim() {
    [ -n "$sim_pid" ] || return 0
    wait "$sim_pid"
    result "$sim_what" "$(cat "$OUT/sim.status")" "$OUT/sim.log"
    sed -n 's/^sim: /     /p' "$OUT/sim.log"
}

step_fuzz() {
    local targets=() t
    for t in tests/fuzz_*.c; do [ -e "$t" ] && targets+=("build/fuzz/$(basename "$t" .c)"); done
    [ ${#targets[@]} -gt 0 ] || return
    now "fuzz: build" make --no-print-directory -k -j"$JOBS" "${targets[@]}"
    for t in "${targets[@]}"; do
        job "fuzz: ${t##*/fuzz_}, $CHECK_FUZZ_SECONDS s" tests/fuzz.sh "$CHECK_FUZZ_SECONDS" "$t"
    done
    report
}

# ---- main ----

[ $# -gt 0 ] || set -- lint format rules matrix orders symbols dialects poll sim sanitize fuzz
make_sources
for step in "$@"; do
    declare -F "step_$step" >/dev/null || { echo "no such step: $step" >&2; exit 2; }
    "step_$step"
done
finish_sim

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
