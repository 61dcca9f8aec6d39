#!/usr/bin/env bash
# run_examples.sh   Runs each built example against build/fake_provider, in each of the three dialects.
# Prints "ok NAME dialect" or "FAIL NAME dialect: why" with the output, then one line of totals:
#     N passed, N failed
# Variables: BUILD (build), EXAMPLE_SECONDS (20): the time one run may take. Run from the top of the repository.
set -u
: "${BUILD:=build}" "${EXAMPLE_SECONDS:=20}"
unset LLMGW_MODEL # this script sets it for the examples
passed=0 failed=0 name='' dialect='' model='' output='' status=0

provider=$BUILD/fake_provider
[ -x "$provider" ] || provider=build/fake_provider
work=$(mktemp -d "$BUILD/examples.XXXXXX") || exit 1

# The provider's stdin is a pipe that this script holds: it ends with us, however we end.
coproc FAKE { exec "$provider" --port 0 --parent-pid-watch; }
fake=$!
trap 'kill $fake 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
port=
read -r -t 10 line <&"${FAKE[0]}" && port=$(sed -n 's/^READY port=\([0-9]*\).*/\1/p' <<<"$line")
[ -n "$port" ] || { echo "run_examples.sh: $provider does not start"; exit 1; }

cat >"$work/config.json" <<JSON
{"providers": {
    "openai":    {"url": "http://127.0.0.1:$port/v1", "key": "fake"},
    "anthropic": {"url": "http://127.0.0.1:$port/v1", "key": "fake"},
    "gemini":    {"url": "http://127.0.0.1:$port/v1beta", "key": "fake"}}}
JSON
export LLMGW_CONFIG=$work/config.json

# run EXAMPLE ARGUMENTS...: sets output (both streams) and status.
run() {
    local example=$1
    shift
    output=$(timeout -k 2 "$EXAMPLE_SECONDS" ${RUNNER:-} "$BUILD/examples/$example" "$@" 2>&1 </dev/null)
    status=$?
}

# expect STATUS TEXT...: judges what run left behind.
expect() {
    local want=$1 why='' text
    shift
    [ "$status" -eq "$want" ] || why="status $status instead of $want"
    [ "$status" -ne 124 ] || why="stopped after $EXAMPLE_SECONDS s"
    for text in "$@"; do
        [ -n "$why" ] || grep -qF -e "$text" <<<"$output" || why="no \"$text\" in its output"
    done
    if [ -z "$why" ]; then
        passed=$((passed + 1))
        echo "ok $name $dialect"
    else
        failed=$((failed + 1))
        echo "FAIL $name $dialect: $why"
        tail -n 20 <<<"$output" | sed 's/^/     | /'
    fi
}

# ---- one function an example ----

test_ask() {
    run ask "$dialect/$model" "Where do ducks go? 🦆"
    expect 0 "Echo from $model: Where do ducks go? 🦆"
    name=ask-refused
    run ask "$dialect/fault:{\"status\":401}" "Anyone?"
    expect 1 "ask: $dialect/"
}

test_stream() {
    run stream "Count to three, é, 🦆."
    expect 0 "Echo from $model: Count to three, é, 🦆."
    # Ctrl-C in the middle of an answer that would take minutes.
    name=stream-interrupted
    export LLMGW_MODEL="$dialect/fault:{\"text\":\"tick tock \",\"text_repeat\":1000,\"chunk_ms\":100}"
    ${RUNNER:-} "$BUILD/examples/stream" >"$work/out" 2>&1 </dev/null &
    local pid=$! start=$SECONDS
    while [ $((SECONDS - start)) -lt "$EXAMPLE_SECONDS" ] && ! grep -q tock "$work/out"; do sleep 0.1; done
    kill -INT $pid
    while [ $((SECONDS - start)) -lt "$EXAMPLE_SECONDS" ] && kill -0 $pid 2>/dev/null; do sleep 0.1; done
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    status=$? output=$(<"$work/out")
    expect 130 "tick tock" "stream: cancelled"
}

test_game_loop() {
    run game_loop "Hail, knight!"
    expect 0 "] frame 0," "Echo from $model: Hail, knight!"
}

test_threads() {
    run threads
    expect 0 "Rome   $dialect" "Quito  $dialect" "Echo from $model: In one sentence: what is Oslo known for?"
}

test_tools() {
    run tools 'Please call:clock {"zone":"utc"}'
    expect 0 "[clock(" "Tool said: $(date -u +%Y-%m-)"
}

test_image() {
    run image
    expect 0 "Echo from $model: What is in this picture?" "image/png"
    name=image-file
    printf '\xff\xd8\xff\xe0 not much of a picture' >"$work/picture.jpg"
    run image "$work/picture.jpg" "Who is this?"
    expect 0 "Echo from $model: Who is this?" "image/jpeg"
}

test_routes() {
    run routes "Is water wet? Yes or no?"
    expect 0 "Echo from $model: Is water wet?" "attempt $dialect/$model: OK"
    name=routes-fallback
    export LLMGW_MODEL="$dialect/fault:{\"status\":500}"
    run routes "Is water wet? Yes or no?"
    expect 0 "Echo from gpt-4.1-mini: Is water" "E_PROVIDER" "attempt openai/gpt-4.1-mini: OK"
    name=routes-invalid
    export LLMGW_MODEL="$dialect/fault:{\"text\":\"Hm.\"}"
    run routes "Is water wet? Yes or no?"
    expect 0 "Echo from gpt-4.1-mini: Is water" "E_INVALID" "attempt openai/gpt-4.1-mini: OK"
    name=routes-hedge
    export LLMGW_MODEL="$dialect/fault:{\"delay_ms\":9000}"
    run routes "Is water wet? Yes or no?"
    expect 0 "Echo from gpt-4.1-mini: Is water" "E_CANCELLED" "hedge: "
}

test_limits() {
    [ "$dialect" = openai ] || return 0 # its provider is given in C
    export OPENAI_API_KEY=fake OPENAI_API_KEY_2=fake-2 OPENAI_BASE_URL=http://127.0.0.1:$port/v1
    run limits
    unset OPENAI_API_KEY OPENAI_API_KEY_2 OPENAI_BASE_URL
    expect 0 "6: Echo from gpt-4o-mini" "7: come back in " "openai  key 1: 3 of 3 rpm" "0 of 6 attempts failed"
}

test_cache() {
    export LLMGW_STORE=$work/store-$dialect
    run cache
    expect 0 "Echo from $model: Why is the sky blue?" "[miss, " "[exact, " "[semantic, " \
        "1 entries; of 3 requests 1 exact and 1 semantic hits"
    name=cache-again # another process
    run cache "Why is the sky blue?" "Name 3 reasons why the sky is blue."
    expect 0 "[miss, " "guard: numbers" "of 6 requests 3 exact and 1 semantic hits"
    unset LLMGW_STORE
}

test_budget() {
    export LLMGW_STORE=$work/store-$dialect-money
    run budget
    expect 0 "team-a: Echo from $model" "team-b: Echo from $model" 'budget "team-b" of 0.001 USD a day: ' \
        "team-b: come back in " "team-a   1 attempts, 0.0000" "team-b   "
    name=budget-again # another process
    run budget
    expect 0 "team-a: Echo from $model" 'budget "team-b" of 0.001 USD a day: ' "team-a   2 attempts, 0.0000"
    name=budget-spent # nothing of it is left for what was reserved
    ! grep -q "team-b: Echo" <<<"$output"
    status=$?
    expect 0
    unset LLMGW_STORE
}

test_keys() {
    export LLMGW_STORE=$work/store-$dialect-keys
    run keys
    expect 0 "made llmgw-" "$model: Echo from $model" "openai/gpt-5: key: it may not ask for this model" \
        "$model: key: unknown, revoked or expired" 'llmgw_attempts_total{gen_ai_operation_name="' \
        "gen_ai_request_model=\"$model\""
    unset LLMGW_STORE
}

test_embed() {
    case $dialect in
        openai) export LLMGW_MODEL=openai/text-embedding-3-small ;;
        gemini) export LLMGW_MODEL=gemini/gemini-embedding-001 ;;
    esac
    run embed
    if [ "$dialect" = anthropic ]; then
        expect 1 "embed: $LLMGW_MODEL: nothing is known of embeddings there"
    else
        expect 0 "A refund is paid" "tokens, 64 numbers each, "
        name=embed-nearest
        output=$(sort -rn <<<"$output" | grep '^ ' | head -n 1)
        expect 0 "A refund is paid to your account"
    fi
}

test_batch() {
    [ "$dialect" != gemini ] || return 0 # none of ours
    run batch
    expect 0 "$dialect/$model/"
    name=batch-later # another process
    local id=$output
    for _ in 1 2 3 4; do run batch "$id"; done
    expect 0 "ended: 3 of 3 answered" "sky: Echo from $model: Why is the sky blue?" "snow: Echo"
}

# ---- all of them ----

for source in examples/*.c; do
    for target in openai/gpt-4o-mini anthropic/claude-haiku-4-5 gemini/gemini-2.5-flash; do
        name=$(basename "$source" .c) dialect=${target%%/*} model=${target#*/}
        export LLMGW_MODEL=$target
        if declare -F "test_$name" >/dev/null; then
            "test_$name"
        else
            status=1 output="write test_$name in tests/run_examples.sh"
            expect 0
        fi
    done
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
