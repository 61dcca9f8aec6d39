#!/usr/bin/env bash
# demo.sh   Starts three fake providers, one for each dialect, and build/demo, which talks to them and kills
# the first one. Ends all of them, also on Ctrl-C; leaves no file. Called by `make demo`.
# With LLMGW_DEMO_REAL=1 and a key (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY) in the environment, the
# same program talks to real providers and nothing is started.
set -u
: "${BUILD:=build}"

LLMGW_DEMO_STORE=$(mktemp -d) || exit 1
export LLMGW_DEMO_STORE

pids=()
end() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null
    wait
    rm -rf "$LLMGW_DEMO_STORE"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -n "${LLMGW_DEMO_REAL:-}" ]; then
    "$BUILD/demo"
    exit
fi

# Two pipes that never end: the providers stop when their stdin does (or, should we be killed, with us).
exec {stdin}<> <(:) {lines}<> <(:) {stderr}>&2
exec 2>/dev/null # where bash would tell that one of them was killed
arguments=()
for name in openai anthropic gemini; do
    "$BUILD/fake_provider" --port 0 --name $name --parent-pid-watch <&"$stdin" >&"$lines" 2>&"$stderr" &
    pids+=($!)
    read -r -t 10 line <&"$lines" && [[ $line =~ ^READY\ port=([0-9]+) ]] ||
        { echo "demo.sh: $BUILD/fake_provider does not start" >&"$stderr"; exit 1; }
    arguments+=("$name:${BASH_REMATCH[1]}:$!")
done

"$BUILD/demo" "${arguments[@]}" 2>&"$stderr" & # not in the foreground: traps would wait for it
demo=$!
pids+=($demo)
wait $demo
