#!/usr/bin/env python3
"""What recorded usage costs. For every usage block of the recordings, of every dialect, llmgw.h's cost by the
LiteLLM file (cost.c) must be, to the pico-dollar, what is computed here from the raw block and the raw file with
exact fractions; litellm.cost_calculator is a second opinion, and where it says something else, EXPLAINED says why.

    cost.py COST FIXTURES PRICES [--litellm PYTHON]

A body of a dialect that llmgw.h reads is read by it, and its counts are compared too. The usage of other dialects
(Responses, Bedrock, Cohere) is given to it as counts. Each block is priced for the model that answered, then for
stand-ins that have every kind of rate, in every tier, as it is and so large that thresholds are passed."""
import json
import os
import random
import re
import subprocess
import sys
import urllib.parse
from fractions import Fraction

HERE = os.path.dirname(os.path.abspath(__file__))
TIERS = ["", "_batches", "_flex", "_priority"]
FIELDS = ["input", "output", "cached", "write", "write_1h", "reasoning", "audio_in", "audio_out", "tier"]

# folder -> flavour; what llmgw.h reads has a dialect
FLAVOUR = {"openai-chat": "openai", "anthropic-messages": "anthropic", "gemini-generatecontent": "gemini",
           "qwen-dashscope": "qwen", "azure-openai": "azure", "bedrock-converse": "bedrock",
           "openai-responses": "openai", "embeddings": "openai"}
FOLDERS = ["openai-chat", "anthropic-messages", "gemini-generatecontent", "deepseek", "mistral", "qwen-dashscope",
           "groq", "moonshot", "openrouter", "ollama", "azure-openai", "embeddings", "openai-responses",
           "bedrock-converse", "cohere"]

# flavour -> (providers of its rows, prefix of their names)
VENDOR = {"openai": ({"openai", "text-completion-openai"}, "openai/"), "qwen": ({"dashscope"}, "dashscope/"),
          "cohere": ({"cohere", "cohere_chat"}, "cohere/"), "bedrock": ({"bedrock", "bedrock_converse"}, "bedrock/")}

# Rows that together have every kind of rate and every suffix.
STAND_INS = [("openai", "gpt-5.4"), ("openai", "gpt-4o-audio-preview"), ("anthropic", "claude-opus-4-6"),
             ("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-4-sonnet-20250514"),
             ("gemini", "gemini-2.5-pro"), ("gemini", "gemini-2.5-flash"), ("gemini", "gemini-3.1-pro-preview"),
             ("qwen", "qwen-flash"), ("qwen", "qwen-plus-2025-04-28"), ("deepseek", "deepseek-reasoner"),
             ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"), ("openai", "no-such-model")]


# Bodies that are an error to llmgw.h (see differences.py): what the second message in them used is not the first's.
BROKEN = {"anthropic-messages/vercel__spliced-message-start.sse",
          "anthropic-messages/vercel__spliced-message-start.chunks.txt",
          # several replies, one behind the other
          "openai-responses/vercel__openai-reasoning-encrypted-content.1.sse",
          "openai-responses/vercel__openai-reasoning-encrypted-content.1.chunks.txt"}


# ---- the raw usage ------------------------------------------------------------------------------

def counts(input=0, output=0, cached=0, write=0, write_1h=0, reasoning=0, audio_in=0, audio_out=0, tier=None):
    t = (tier or "").lower()
    tier = 2 if "flex" in t else 1 if "batch" in t else 3 if "priority" in t or "fast" in t else 0
    return dict(zip(FIELDS, [input or 0, output or 0, cached or 0, write or 0, write_1h or 0, reasoning or 0,
                             audio_in or 0, audio_out or 0, tier]))


def documents(body, name):
    """Every JSON document in a body: the whole, an array's items, lines, events, or pieces of a binary frame."""
    if name.endswith(".bin"):
        return [json.loads(m.group(0)) for m in re.finditer(rb'\{"metrics".*?"usage":\{.*?\}.*?\}', body)
                if balanced(m.group(0))] or frames(body)
    text = body.decode("utf-8", "replace")
    try:
        d = json.loads(text)
        return d if isinstance(d, list) else [d]
    except ValueError:
        pass
    out = []
    for line in re.split(r"\r\n|\r|\n", text):
        line = line[5:].strip() if line.startswith("data:") else line.strip()
        try:
            d = json.loads(line)
        except ValueError:
            continue
        if isinstance(d, dict):
            out.append(d)
    return out


def balanced(b):
    try:
        json.loads(b)
        return True
    except ValueError:
        return False


def frames(body):
    """AWS event stream: length, length of headers, CRC, headers, payload, CRC."""
    out, at = [], 0
    while at + 16 <= len(body):
        total, head = (int.from_bytes(body[at + i:at + i + 4], "big") for i in (0, 4))
        try:
            out.append(json.loads(body[at + 12 + head:at + total - 4]))
        except ValueError:
            pass
        at += max(total, 16)
    return out


def openai(u, tier):
    p, c = u.get("prompt_tokens_details") or {}, u.get("completion_tokens_details") or {}
    i, o, r = u.get("prompt_tokens") or 0, u.get("completion_tokens") or 0, c.get("reasoning_tokens") or 0
    if r and u.get("total_tokens") == i + o + r:
        o += r
    return counts(i, o, p.get("cached_tokens") or u.get("prompt_cache_hit_tokens") or u.get("cached_tokens"),
                  p.get("cache_write_tokens") or p.get("cache_creation_input_tokens"), 0, r,
                  p.get("audio_tokens"), c.get("audio_tokens"), tier)


def anthropic(u):
    r, w = u.get("cache_read_input_tokens") or 0, u.get("cache_creation_input_tokens") or 0
    return counts((u.get("input_tokens") or 0) + r + w, u.get("output_tokens"), r, w,
                  (u.get("cache_creation") or {}).get("ephemeral_1h_input_tokens"),
                  (u.get("output_tokens_details") or {}).get("thinking_tokens"), 0, 0, u.get("service_tier"))


def gemini(u):
    def sound(key):
        return sum(d.get("tokenCount") or 0 for d in u.get(key) or [] if d.get("modality") == "AUDIO")
    t = u.get("thoughtsTokenCount") or 0
    return counts((u.get("promptTokenCount") or 0) + (u.get("toolUsePromptTokenCount") or 0),
                  (u.get("candidatesTokenCount") or 0) + t, u.get("cachedContentTokenCount"), 0, 0, t,
                  max(0, sound("promptTokensDetails") - sound("cacheTokensDetails")),
                  sound("candidatesTokensDetails"), u.get("serviceTier") or u.get("trafficType"))


def responses(u, tier):
    p, c = u.get("input_tokens_details") or {}, u.get("output_tokens_details") or {}
    return counts(u.get("input_tokens"), u.get("output_tokens"), p.get("cached_tokens"), p.get("cache_write_tokens"),
                  0, c.get("reasoning_tokens"), 0, 0, tier)


def bedrock(u, tier):
    r, w = u.get("cacheReadInputTokens") or 0, u.get("cacheWriteInputTokens") or 0
    hour = sum(d.get("inputTokens") or 0 for d in u.get("cacheDetails") or [] if d.get("ttl") == "1h")
    return counts((u.get("inputTokens") or 0) + r + w, u.get("outputTokens"), r, w, hour, 0, 0, 0,
                  (tier or {}).get("type"))


def usage_of(docs):
    """(dialect, model, counts, the provider's own bill or None) of the last usage that the documents tell."""
    found, model, merged, tier, bill = None, "", None, None, None
    for d in docs:
        if not isinstance(d, dict):
            continue
        inner = d.get("response") if isinstance(d.get("response"), dict) else d
        if isinstance(d.get("message"), dict) and isinstance(d["message"].get("usage"), dict) \
                and d.get("type") == "message_start":
            merged, model = dict(d["message"]["usage"]), d["message"].get("model") or model
            found = ("anthropic", merged)
        model = inner.get("model") or d.get("modelVersion") or model
        tier = d.get("service_tier") or tier
        u = inner.get("usage")
        for c in d.get("choices") or []:
            u = u or (c.get("usage") if isinstance(c, dict) else None)
        u = u or (d.get("x_groq") or {}).get("usage")
        if isinstance(d.get("usageMetadata"), dict) and "promptTokenCount" in d["usageMetadata"]:
            found = ("gemini", d["usageMetadata"])
        elif not isinstance(u, dict):
            continue
        elif merged is not None:
            merged.update({k: v for k, v in u.items() if v is not None})
        elif "inputTokens" in u:
            found, tier = ("bedrock", u), d.get("serviceTier") or tier
        elif "billed_units" in u or "tokens" in u:
            t = u.get("billed_units") or u["tokens"]
            found = ("cohere", t)
        elif "prompt_tokens" in u:
            found = ("openai", u)
            bill = u["cost"] if isinstance(u.get("cost"), (int, float)) else bill
        elif "input_tokens" in u and (inner.get("object") == "response" or inner is not d):
            found, tier = ("responses", u), inner.get("service_tier")
            bill = u["cost"] if isinstance(u.get("cost"), (int, float)) else bill
        elif "input_tokens" in u:
            found = ("anthropic", u)
    if not found:
        return None
    kind, u = found
    n = {"openai": lambda: openai(u, tier), "anthropic": lambda: anthropic(u), "gemini": lambda: gemini(u),
         "responses": lambda: responses(u, tier), "bedrock": lambda: bedrock(u, tier),
         "cohere": lambda: counts(u.get("input_tokens"), u.get("output_tokens"))}[kind]()
    return kind, model, n, bill


# ---- the price ----------------------------------------------------------------------------------

def has_rate(row):
    """Is there one that calls of models are billed by? A row of a speech or search service has none."""
    return any(re.match(r"(input|output)_cost_per_(audio_token|reasoning_token|token|request)|input_cost_per_image($|_above)"
                        "|cache_(read|creation)_input_token_cost|tiered_pricing", k) for k in row)


def row_of(prices, flavour, model):
    providers, prefix = VENDOR.get(flavour, ({flavour}, flavour + "/"))
    for name in (model, re.sub(r"-2\d{7}$|-2\d\d\d-\d\d-\d\d$", "", model)):
        for key in (prefix + name, name):
            row = prices.get(key)
            if row and key != "sample_spec" and row.get("litellm_provider") in providers and has_rate(row):
                return key, row
    return None, None


def rate(row, names, suffix, size):
    """Of the first of names that the row has. A request of more than a threshold pays the highest that it passes, at
    its service tier's rate there, or else at the standard one."""
    for name in names:
        offers = []
        for tiered in row.get("tiered_pricing") or []:
            if name in tiered and "range" in tiered:
                offers.append((int(Fraction(tiered["range"][0])), 0, tiered[name]))
        for key, value in row.items():
            m = re.fullmatch(re.escape(name) + r"(?:_above_(\d+)k_tokens)?(|" + suffix + ")", key)
            if m:
                offers.append((int(m.group(1) or 0) * 1000, len(m.group(2)), value))
        offers = [o for o in offers if o[0] == 0 or size > o[0]]
        if offers:
            return Fraction(max(offers)[2])
    return None


INPUT, OUTPUT = ["input_cost_per_token"], ["output_cost_per_token"]
WRITE = ["cache_creation_input_token_cost"]
NAMES = {"input": [INPUT], "cached": [["cache_read_input_token_cost", "input_cost_per_token_cache_hit"], INPUT],
         "write": [WRITE, INPUT], "write_1h": [["cache_creation_input_token_cost_above_1hr"], WRITE, INPUT],
         "audio_in": [["input_cost_per_audio_token"], INPUT], "output": [OUTPUT],
         "reasoning": [["output_cost_per_reasoning_token"], OUTPUT],
         "audio_out": [["output_cost_per_audio_token"], OUTPUT]}


def cost(row, n, whole_atto=False):
    """Pico-dollars, or None."""
    if row is None:
        return None
    rest_in, rest_out = n["input"], n["output"]
    part = {}
    part["cached"] = min(n["cached"], rest_in)
    written = min(n["write"], rest_in - part["cached"])
    part["write_1h"] = min(n["write_1h"], written)
    part["write"] = written - part["write_1h"]
    rest_in -= part["cached"] + written
    part["audio_in"] = min(n["audio_in"], rest_in)
    part["input"] = rest_in - part["audio_in"]
    part["reasoning"] = min(n["reasoning"], rest_out)
    part["audio_out"] = min(n["audio_out"], rest_out - part["reasoning"])
    part["output"] = rest_out - part["reasoning"] - part["audio_out"]
    total = Fraction(0)
    for kind, tokens in part.items():
        if not tokens:
            continue
        for names in NAMES[kind]:
            r = rate(row, names, TIERS[n["tier"]], n["input"])
            if r is not None:
                break
        if r is None:
            return None
        total += tokens * (Fraction(round(r * 10**18), 10**18) if whole_atto else r)
    if TIERS[n["tier"]] == "_batches" and not any(k.endswith("_batches") for k in row):
        total /= 2  # no price of its own: OpenAI's and Anthropic's batches, of all models, are half price (litellm, too)
    name = ["input_cost_per_request"]
    total += rate(row, name, TIERS[n["tier"]], n["input"]) or 0
    return round(total * 10**12)  # half to even


# ---- all of it ----------------------------------------------------------------------------------

def blocks(root):
    """(key, dialect or None, flavour, kind, model, counts, bill, path) of every recorded usage."""
    for folder in FOLDERS:
        d = os.path.join(root, folder)
        for name in sorted(os.listdir(d)) if os.path.isdir(d) else []:
            if name.endswith(".meta.json"):
                continue
            with open(os.path.join(d, name), "rb") as f:
                body = f.read()
            meta = os.path.join(d, re.sub(r"\.response\..*$", ".meta.json", name))
            uri = json.load(open(meta))["uri"] if name.find(".response.") > 0 and os.path.exists(meta) else ""
            got = usage_of(documents(body, name))
            if got is None:
                continue
            dialect, model, n, bill = got
            if dialect == "bedrock" and "/model/" in uri:
                model = urllib.parse.unquote(uri.split("/model/")[1].split("/")[0])
            flavour = FLAVOUR.get(folder, folder)
            if dialect == "gemini":
                flavour = "gemini"
            if folder == "embeddings" or "embedding" in name:
                dialect = "embeddings" if dialect == "openai" else dialect
            stream = name.endswith((".sse", ".chunks.txt", ".bin")) or body[:1] == b"["
            yield (folder + "/" + name, dialect, flavour, "stream" if stream else "reply", model or "-", n, bill,
                   os.path.join(d, name), body)


def framed(body, dialect, path, name, out):
    """The body as a provider would send it; a list of chunks or an array is framed as events."""
    if name.endswith(".chunks.txt") or body[:1] == b"[":
        path = os.path.join(out, name.replace("/", "_"))
        with open(path, "w") as f:
            for d in documents(body, name):
                f.write(("event: %s\n" % d["type"] if dialect == "anthropic" else "")
                        + "data: %s\n\n" % json.dumps(d))
    return path


def main():
    prog, root, file = sys.argv[1:4]
    opinion = sys.argv[sys.argv.index("--litellm") + 1] if "--litellm" in sys.argv else None
    if not os.path.exists(file):
        print("SKIP cost: there is no %s" % file)
        print("0 passed, 0 failed, 1 skipped")
        return 0
    prices = json.load(open(file), parse_float=str, parse_int=str)
    prices = {k: v for k, v in prices.items()}
    out = os.path.dirname(os.path.abspath(prog))
    jobs, lines = {}, []

    def job(line, *what):
        jobs[str(len(jobs))] = what
        lines.append(line.replace("#", str(len(jobs) - 1), 1))

    def usage_job(flavour, model, n):
        return "\t".join(["usage", "#", flavour, model] + [str(n[f]) for f in FIELDS])

    dice, all_rows = random.Random(5), sorted(k for k in prices if k != "sample_spec")
    found = list(blocks(root))
    for key, dialect, flavour, kind, model, n, bill, path, body in found:
        path = framed(body, dialect, path, key, out)
        job("\t".join(["body", "#", dialect, flavour, kind, model, path]), "read", key, flavour, model, n, bill)
        rows = STAND_INS + [(prices[k]["litellm_provider"], k) for k in dice.sample(all_rows, 12)]
        for sf, sm in rows:
            for factor in (1, 997):
                for tier in range(4):
                    m = {f: n[f] * (factor if f != "tier" else 1) for f in FIELDS}
                    m["tier"] = tier
                    if dice.random() < 0.5:  # sound and an hour's cache are rare in the recordings
                        rest = max(0, m["input"] - m["cached"] - m["write"])
                        m["audio_in"], m["audio_out"] = rest // 3, max(0, m["output"] - m["reasoning"]) // 5
                        m["write"] += rest // 4
                        m["write_1h"] = m["write"] // 3
                    job(usage_job(sf, sm, m), "stand-in", key, sf, sm, m, None)
    p = subprocess.run([prog, file], input="".join(x + "\n" for x in lines), stdout=subprocess.PIPE, text=True)
    answers = {a.split("\t")[0]: [int(x) for x in a.split("\t")[1:]] for a in p.stdout.splitlines()}
    tally, failures, passed, unknown, second, broken = {}, [], 0, set(), [], 0
    if p.returncode or len(answers) != len(jobs):
        failures.append("cost.c answered %d of %d (status %d)" % (len(answers), len(jobs), p.returncode))
    for i, (how, key, flavour, model, n, bill) in jobs.items():
        if i not in answers:
            continue
        a = answers[i]
        got, priced, pico, reported = dict(zip(FIELDS, a[1:10])), a[10], a[11], a[13:15]
        name, row = row_of(prices, flavour, model)
        want, wrong = cost(row, n), []
        if how == "read" and key in BROKEN:
            broken += got != n
            continue
        t = tally.setdefault(how, [0, 0, 0, 0])
        if how == "read" and (not a[0] or got != n):
            wrong.append("usage: %s, llmgw.h %s" % (n, got if a[0] else None))
        if (want is not None) != bool(priced) or (priced and want != pico):
            if priced and want is not None and cost(row, n, True) == pico:
                t[3] += 1  # a rate of the file that is finer than 1e-18 USD
            else:
                wrong.append("cost of %s: %s, llmgw.h %s" % (model, want, pico if priced else None))
        if how == "read" and (bill is not None) != bool(reported[0]) or \
                (bill is not None and round(Fraction(repr(bill)) * 10**12) != reported[1]):
            wrong.append("the provider's bill: %s, llmgw.h %s" % (bill, reported))
        if want is None and how != "stand-in":
            unknown.add("%s/%s" % (flavour, model))
        t[0 if want is not None else 1] += 1
        passed += not wrong
        failures += ["%s: %s" % (key, w) for w in wrong]
        if want is not None:
            second.append((how, key, name, row["litellm_provider"], n, pico, cost(row, dict(n, tier=0))))
    if broken != len(BROKEN):
        failures.append("%d of %d of BROKEN are broken" % (broken, len(BROKEN)))
    for how, t in tally.items():
        print("%-9s %6d priced, %5d of unknown price to both, %d with rates finer than 1e-18 USD"
              % ((how,) + tuple([t[0], t[1], t[3]])))
    print("recorded usage blocks: %d (%s)" % (len(found), ", ".join(
        "%s %d" % (d, sum(1 for f in found if f[1] == d)) for d in sorted({f[1] for f in found}))))
    print("models of them that the file does not have: %s" % ", ".join(sorted(unknown)))
    good, bad, skipped = compare_litellm(opinion, file, second)
    failures += bad
    for line in failures[:60]:
        print("FAIL cost: " + line)
    print("%d passed, %d failed, %d skipped" % (passed + good, len(failures), skipped))
    return 1 if failures else 0

# ---- the second opinion -------------------------------------------------------------------------

# Where litellm 1.106.2 says something else, and why that is not what is owed: (when, of the counts, litellm's answer in
# USD and what the standard tier costs; why).
EXPLAINED = [
    (lambda n, theirs, standard: n["tier"] == 1 and abs(theirs * 1e12 - standard) <= 1 + standard * 1e-9,
     "its cost_per_token knows the tiers flex and priority, but prices a batch as standard: batches have a function of "
     "their own there (batch_cost_calculator), which takes the _batches rates, as llmgw.h does"),
    (lambda n, theirs, standard: n["reasoning"] > n["output"],
     "the recording (test_openrouter_stream_error) has 11 reasoning tokens in 10 completion tokens: litellm bills all 11, "
     "llmgw.h never more than the whole"),
]

ASK_LITELLM = r"""
import json, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from litellm.cost_calculator import cost_per_token
from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper, Usage
litellm.model_cost = {k: v for k, v in json.load(open(sys.argv[1])).items() if k != "sample_spec"}
for clear in ("_invalidate_model_cost_lowercase_map",):
    getattr(litellm.utils, clear, lambda: None)()
for line in sys.stdin:
    j = json.loads(line)
    n = j["usage"]
    u = Usage(prompt_tokens=n["input"], completion_tokens=n["output"], total_tokens=n["input"] + n["output"],
              cache_read_input_tokens=n["cached"], cache_creation_input_tokens=n["write"],
              prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=n["cached"], audio_tokens=n["audio_in"],
                  cache_creation_tokens=n["write"], cache_creation_token_details={
                      "ephemeral_5m_input_tokens": n["write"] - n["write_1h"],
                      "ephemeral_1h_input_tokens": n["write_1h"]} if n["write"] else None),
              completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=n["reasoning"],
                  audio_tokens=n["audio_out"]))
    try:
        c = cost_per_token(model=j["key"], custom_llm_provider=j["provider"], usage_object=u,
                           call_type="embedding" if j["embedding"] else "completion",
                           service_tier=[None, "batch", "flex", "priority"][n["tier"]])
        print(json.dumps(sum(c)))
    except Exception as e:
        print(json.dumps("%s: %s" % (type(e).__name__, str(e)[:150])))
"""


def compare_litellm(opinion, file, second):
    """(passed, failures, skipped): every recorded block that the file has a price for, and a tenth of the stand-ins."""
    dice, named = random.Random(6), {m for _, m in STAND_INS} | {f + "/" + m for f, m in STAND_INS}
    second = [x for x in second if x[0] != "stand-in" or (dice.random() < 0.1 and x[2] in named | {"dashscope/qwen-flash"})]
    if not opinion:
        print("SKIP cost: litellm is not there: no second opinion on %d costs" % len(second))
        return 0, [], 1
    text = "".join(json.dumps({"key": x[2], "provider": x[3], "usage": x[4], "embedding": "embedding" in x[2]}) + "\n"
                   for x in second)
    p = subprocess.run([opinion, "-c", ASK_LITELLM, file], input=text, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=200)
    said = [json.loads(x) for x in p.stdout.splitlines() if x.strip()]
    if len(said) != len(second):
        return 0, ["litellm answered %d of %d: %s" % (len(said), len(second), p.stderr[-500:])], 0
    same, failures, met = 0, [], {}
    for (how, key, name, provider, n, pico, standard), theirs in zip(second, said):
        # floating point, and the pico-dollar that ours is rounded to
        if not isinstance(theirs, str) and abs(theirs * 1e12 - pico) <= 1 + pico * 1e-9:
            same += 1
            continue
        why = [] if isinstance(theirs, str) else [w for like, w in EXPLAINED if like(n, theirs, standard)]
        if why:
            met.setdefault(why[0], []).append(key)
        else:
            failures.append("%s: %s: litellm says %s, llmgw.h %d pico-dollars; %s" % (
                key, name, theirs if isinstance(theirs, str) else "%.0f" % (theirs * 1e12), pico, n))
    for why, keys in met.items():
        print("litellm differs %d times: %s" % (len(keys), why))
    failures += ["litellm no longer differs: " + w for _, w in EXPLAINED if w not in met]
    print("litellm: the same %d times, %d explained, %d not" % (same, sum(map(len, met.values())), len(failures)))
    return same + sum(map(len, met.values())), failures, 0


if __name__ == "__main__":
    sys.exit(main())
