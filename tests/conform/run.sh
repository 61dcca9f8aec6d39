#!/bin/sh
# The conformance suite (make conform). Recorded provider replies go over a socket, cut at random places, to
# llmgw.h and to the vendors' own Python SDKs: both must read the same. See conform.py and differences.md.
# What they used is priced by llmgw.h and by exact fractions: both must cost the same. See cost.py.
# Servers that others wrote answer llmgw.h over loopback, and misbehave: aimock.py, gateways.py, vectors.py.
#
#   FIXTURES=DIR        the recordings (default ../shared/fixtures beside this repository)
#   PRICES=FILE         LiteLLM's model_prices_and_context_window.json (default ../shared/data/prices/...)
#   CONFORM_CFLAGS=...  for the C side (default -O1 -g)
#   CONFORM_SEEDS=20  CONFORM_CUTS=10  CONFORM_REFRAMED=6  CONFORM_DAMAGED=10  CONFORM_ONLY=part-of-a-name
#   AIMOCK_ONLY=part-of-a-name  AIMOCK_CHANCES=12    of aimock.py and gateways.py
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${BUILD:-$root/build}/conform
case $out in /*) ;; *) out=$root/$out ;; esac
fixtures=${FIXTURES:-$root/../shared/fixtures}
cc=${CC:-gcc}

skip() {
    echo "SKIP conform: $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

[ -d "$fixtures" ] || skip "there are no recordings in $fixtures"
mkdir -p "$out" || exit 1

cmp -s "$here/requirements.txt" "$out/venv/installed.txt" || {
    rm -rf "$out/venv"
    python3 -m venv "$out/venv" >"$out/venv.log" 2>&1 || skip "python3 -m venv does not work (see $out/venv.log)"
    timeout 200 "$out/venv/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 20 \
        -r "$here/requirements.txt" >"$out/pip.log" 2>&1 ||
        skip "the SDKs could not be installed (see $out/pip.log)"
    cp "$here/requirements.txt" "$out/venv/installed.txt"
}

programs="decode ask cost tokens"
grep -q 'llmgw_embed(llmgw' "$root/llmgw.h" && programs="$programs vectors"
for p in $programs; do
    # shellcheck disable=SC2086
    $cc -std=gnu11 -Wall -Wextra -Wno-unused-parameter ${CONFORM_CFLAGS:--O1 -g} -I"$root" "$here/$p.c" \
        -o "$out/$p" -lcurl -llmdb -lxxhash -ljansson -lpthread -lm || {
        echo "FAIL tests/conform/$p.c does not build"
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
    }
done

# No proxy between us and ourselves.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
export PYTHONDONTWRITEBYTECODE=1

# What usage costs, with litellm as a second opinion, and its proxy: in a venv of its own, since it pins its own SDKs.
prices=${PRICES:-$root/../shared/data/prices/model_prices_and_context_window.json}
litellm='litellm[proxy]==1.106.2'
[ "$(cat "$out/litellm/installed.txt" 2>/dev/null)" = "$litellm" ] || {
    rm -rf "$out/litellm"
    python3 -m venv "$out/litellm" >"$out/litellm.log" 2>&1 &&
        timeout 300 "$out/litellm/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 20 \
            "$litellm" >>"$out/litellm.log" 2>&1 && echo "$litellm" >"$out/litellm/installed.txt"
}
opinion=
[ -f "$out/litellm/installed.txt" ] && opinion="--litellm $out/litellm/bin/python"
# shellcheck disable=SC2086
timeout 300 python3 "$here/cost.py" "$out/cost" "$fixtures" "$prices" $opinion || {
    echo "FAIL cost.py"
    exit 1
}

# The estimate of tokens against a real tokenizer, which litellm's package brings along.
if [ -f "$out/litellm/installed.txt" ]; then
    timeout 100 "$out/litellm/bin/python" "$here/tokens.py" "$out/tokens" "$root" "$fixtures" || {
        echo "FAIL tokens.py"
        exit 1
    }
else
    echo "SKIP tokens.py: litellm could not be installed"
fi

# Servers that none of us wrote, on loopback: aimock and Portkey's gateway from npm, litellm's proxy.
node=$out/node
cmp -s "$here/package.json" "$node/installed.json" || {
    rm -rf "$node"
    mkdir -p "$node"
    cp "$here/package.json" "$node/"
    command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 &&
        (cd "$node" && timeout 200 npm install --ignore-scripts --no-audit --no-fund --no-package-lock \
            >"$out/npm.log" 2>&1) && cp "$here/package.json" "$node/installed.json"
}
if [ -f "$node/installed.json" ]; then
    timeout 200 python3 "$here/aimock.py" "$out/decode" "$node/node_modules" "$out" || {
        echo "FAIL aimock.py"
        exit 1
    }
    proxy=
    [ -f "$out/litellm/installed.txt" ] && proxy=$out/litellm/bin/python
    timeout 240 python3 "$here/gateways.py" "$out/decode" "$node/node_modules" "$out" ${proxy:+"$proxy"} || {
        echo "FAIL gateways.py"
        exit 1
    }
    case $programs in
    *vectors*)
        timeout 150 "$out/venv/bin/python" "$here/vectors.py" "$out/vectors" "$fixtures" "$node/node_modules" "$out" || {
            echo "FAIL vectors.py"
            exit 1
        }
        ;;
    *) echo "SKIP vectors.py: this llmgw.h has no embeddings" ;;
    esac
else
    echo "SKIP aimock.py, gateways.py, vectors.py: npm could not install their servers (see $out/npm.log)"
fi

exec timeout 340 "$out/venv/bin/python" "$here/conform.py" "$out/decode" "$fixtures" --asks "$out/ask"
