#!/usr/bin/env python3
"""llmgw.h against a provider that none of us wrote: @copilotkit/aimock from npm, which speaks every dialect from
one set of scripted answers, and misbehaves when a request's x-aimock-chaos-* headers say so.

    aimock.py DECODE NODE_MODULES OUT

Every script is asked in every dialect, whole and streamed, by decode.c (the public API): the answer must be the
scripted one. Under chaos a call must end in that answer or in an error that names the fault, within its deadline;
with a second target that is well it must end in the answer."""
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import conform  # noqa: E402
import servers  # noqa: E402

ONLY = os.environ.get("AIMOCK_ONLY", "")  # part of a job's id
CHANCES = int(os.environ.get("AIMOCK_CHANCES", "12"))

# aimock cuts texts at multiples of a chunk size, in UTF-16 units: here never between the halves of the duck.
WORDS = ("The tower is 330 metres tall. It was built in 1889 \u2014 for a fair. \u00c9t\u00e9 comme hiver, "
         "it is painted \"Eiffel brown\": 60 tonnes of it!\n\nParis \U0001F986: people call it la dame de fer.")
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
TOOLS = [{"name": n, "description": "The %s of a place" % n,
          "parameters": json.dumps({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})}
         for n in ("weather", "clock")]
USAGE = {"prompt_tokens": 31, "completion_tokens": 17, "input_tokens": 31, "output_tokens": 17,
         "promptTokenCount": 31, "candidatesTokenCount": 17}


class Dialect:
    """One way to the server. model: of a family that aimock takes to reason; plain: one that does not; lacks: the
    scripts that aimock does not follow in this dialect."""

    def __init__(self, name, provider, base, model, plain, lacks=(), dialect=None, extra=None):
        self.name, self.provider, self.base, self.model, self.plain = name, provider, base, model, plain
        self.lacks, self.dialect, self.extra = lacks, dialect, extra or {}

    def row(self, url, headers=None):
        """A provider of the configuration. extra: more of it, headers among them."""
        p = dict({"url": url + self.base, "key": "sk-conform"}, **self.extra)
        if self.dialect:
            p["dialect"] = self.dialect
        p["headers"] = dict(p.get("headers", {}), **(headers or {}))
        return {k: v for k, v in p.items() if v is not None}


DIALECTS = [
    Dialect("openai", "openai", "/v1", "gpt-5", "gpt-4o-mini"),
    Dialect("anthropic", "anthropic", "/v1", "claude-sonnet-4-5", "claude-3-5-haiku"),
    Dialect("gemini", "gemini", "/v1beta", "gemini-2.5-flash", "gemini-1.5-flash"),
    Dialect("openrouter", "openrouter", "/api/v1", "openai/gpt-5", "openai/gpt-4o-mini"),
    Dialect("deepseek", "deepseek", "", "deepseek-reasoner", "deepseek-chat"),
    Dialect("groq", "groq", "/openai/v1", "qwen3-32b", "llama-3.1-8b-instant"),
    Dialect("responses", "openai", "/v1", "gpt-5", "gpt-4o-mini", dialect="responses"),
    Dialect("azure", "azure", "", "gpt-5", "gpt-4o-mini"),
    Dialect("azure-dated", "azure", "", "gpt-5", "gpt-4o-mini", extra={"api_version": "2024-10-21"}),
    Dialect("vertex", "vertex", "/v1", "gemini-2.5-flash", "gemini-1.5-flash",
            extra={"project": "my-project", "region": "europe-west4"}),
    Dialect("bedrock", "bedrock", "", "anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-micro-v1:0",
            extra={"key": None, "region": "eu-central-1", "access_key": "AKIDCONFORM", "secret_key": "secret"}),
    Dialect("ollama", "ollama", "", "qwen3:8b", "llama3.2", dialect="ollama",
            lacks=("length", "usage")),  # its done_reason is always "stop", its counts are always 0
    Dialect("cohere", "cohere", "/v2", "command-a-reasoning-08-2025", "command-r7b-12-2024",
            lacks=("reasoning",)),  # it gives it as text
]


# ---- what is scripted, what is asked, what must come -----------------------------------------------

def script(match, response, **more):
    return dict({"match": match, "response": response}, **more)


def scripts():
    two = [{"name": "weather", "arguments": {"city": "Paris"}, "id": "call_a1"},
           {"name": "clock", "arguments": {"city": "Reykjav\u00edk"}, "id": "call_b2"}]
    out = [
        script({"userMessage": "case:tools", "hasToolResult": False}, {"toolCalls": two}),
        script({"userMessage": "case:tools", "hasToolResult": True}, {"content": "Sunny in Paris, noon in Reykjav\u00edk."}),
        script({"userMessage": "case:both"}, {"content": "I look.", "toolCalls": two[:1]}),
        script({"userMessage": "case:system", "systemMessage": "You are a lighthouse."}, {"content": "I blink."}),
        script({"userMessage": "case:system"}, {"content": "the system text did not arrive"}),
        script({"userMessage": "case:schema"}, {"content": {"name": "Ada", "age": 36}}),
        script({"userMessage": "case:reasoning"}, {"content": "42.", "reasoning": "Six times seven. Yes."}),
        script({"userMessage": "case:length"}, {"content": "Once upon", "finishReason": "length"}),
        script({"userMessage": "case:usage"}, {"content": "Counted.", "usage": USAGE}),
        script({"userMessage": "case:slow"}, {"content": WORDS}, latency=20, chunkSize=16),
        script({"userMessage": "case:mute"}, {"content": WORDS}, latency=30000),
        script({"userMessage": "case:text"}, {"content": WORDS}, chunkSize=7),
        script({"userMessage": "case:chaos"}, {"content": WORDS}, chunkSize=7),
        script({"userMessage": "case:halves"}, {"content": "a\U0001F986b"}, chunkSize=2),
        script({"userMessage": "case:history"}, {"content": "Understood."}),
    ]
    for status, kind, text in ERRORS:
        out.append(script({"userMessage": "case:error%d" % status},
                          {"error": {"message": text, "type": kind}, "status": status, "retryAfter": 7}))
    for n in CUTS:
        out.append(script({"userMessage": "case:cut%d." % n}, {"content": WORDS}, chunkSize=16, truncateAfterChunks=n))
    for ms in (40, 120):
        out.append(script({"userMessage": "case:gone%d." % ms}, {"content": WORDS}, chunkSize=16, latency=25,
                          disconnectAfterMs=ms))
    return {"fixtures": out}


ERRORS = [(400, "invalid_request_error", "the fault is yours"), (401, "authentication_error", "who are you"),
          (404, "not_found_error", "no such model"), (429, "rate_limit_error", "too fast"),
          (500, "api_error", "something broke"), (503, "overloaded_error", "try later")]
CODES = {400: "E_BAD_REQUEST", 401: "E_AUTH", 404: "E_NOT_FOUND", 429: "E_RATE_LIMITED", 500: "E_PROVIDER",
         503: "E_OVERLOADED"}
CUTS = (1, 2, 3, 5, 8)

CALLED = [["weather", {"city": "Paris"}], ["clock", {"city": "Reykjav\u00edk"}]]


def asked():
    """(name, members of the request, what must come, more members of the job)"""
    yield "text", {}, {"text": WORDS, "finish": "stop"}, {}
    # JSON cannot carry half a character: one that comes in two halves may be two U+FFFD, never invalid UTF-8.
    yield "halves", {}, {"text": ("a\U0001F986b", "a\ufffd\ufffdb")}, {}
    yield "system", {"system": "You are a lighthouse."}, {"text": "I blink.", "finish": "stop"}, {}
    yield "tools", {"tools": TOOLS}, {"tools": CALLED, "finish": "tool", "text": ""}, {}
    yield "tools", {"tools": TOOLS}, {"text": "Sunny in Paris, noon in Reykjav\u00edk.", "tools": [], "finish": "stop",
                                      "turns": 2}, {"results": {"weather": "sunny", "clock": "noon"}}
    yield "both", {"tools": TOOLS}, {"text": "I look.", "tools": CALLED[:1], "finish": "tool"}, {}
    yield "schema", {"schema": json.dumps(PERSON)}, {"json": {"name": "Ada", "age": 36}, "finish": "stop"}, {}
    yield "length", {"max_tokens": 32}, {"text": "Once upon", "finish": "length"}, {}
    yield "reasoning", {"effort": "medium"}, {"text": "42.", "reasoning": "Six times seven. Yes."}, {}
    yield "usage", {}, {"text": "Counted.", "usage": [31, 17]}, {}
    for status, _, text in ERRORS:
        want = {"error": CODES[status], "says": text, "status": status}
        if status == 429:
            want["retry_after_ms"] = 7000
        yield "error%d" % status, {}, want, {}


def base_ask(case, d, stream, model=None):
    return {"model": model or "%s/%s" % (d.provider, d.model), "prompt": "case:%s. What now?" % case, "stream": stream,
            "max_attempts": 1, "deadline_ms": 20000}


def config(d, url, headers=None):
    return {"providers": {d.provider: d.row(url, headers)}}


def fallback(d, url, headers=None, good=None):
    """The misbehaving way first, then a healthy one under another name."""
    g = good or d
    p = config(d, url, headers)["providers"]
    second = dict(g.row(url), dialect=g.dialect or g.provider)  # a known name stands for its dialect and its ways
    p["well"] = second
    return {"providers": p, "routes": {"r": {"try": ["%s/%s" % (d.provider, d.model), "well/%s" % g.model]}}}


def plain_jobs(d, url):
    for case, more, want, of_job in asked():
        if case in d.lacks:
            continue
        # aimock does not know the role developer, in which OpenAI's models that reason have the system text
        model = "%s/%s" % (d.provider, d.plain) if case == "system" else None
        for stream in (False, True):
            name = case + (" answered" if "results" in of_job else "") + (" streamed" if stream else "")
            yield dict({"id": "%s %s" % (d.name, name), "config": config(d, url), "send": stream,
                        "ask": dict(base_ask(case, d, stream, model), **more)}, **of_job), want


# Each switch of aimock (CHAOS_FIELDS in its chaos.js; list_switches checks that these are all), thrown always:
# what a single attempt must end in. The body of its errors is OpenAI's in every dialect.
CHAOS = {
    "drop": {"error": "E_PROVIDER", "says": "Chaos: request dropped", "status": 500},
    "malformed": {"error": "E_PROTOCOL", "status": 200},
    "disconnect": {"error": "E_NETWORK"},
    "ratelimit": {"error": "E_RATE_LIMITED", "says": "Chaos: rate limit exceeded", "status": 429, "retry_after_ms": 1000},
}


def chaos_jobs(d, url, others):
    good = {"text": WORDS, "finish": "stop"}
    for stream in (False, True):
        tail = " streamed" if stream else ""
        for switch, want in CHAOS.items():
            thrown = {"x-aimock-chaos-" + switch: "1"}
            yield {"id": "%s chaos %s%s" % (d.name, switch, tail), "config": config(d, url, thrown), "send": not stream,
                   "ask": base_ask("chaos", d, stream)}, want
            other = others[0]
            yield {"id": "%s chaos %s, then %s%s" % (d.name, switch, other.name, tail), "send": stream,
                   "config": fallback(d, url, thrown, other),
                   "ask": dict(base_ask("chaos", d, stream, "r"), max_attempts=2)}, dict(good, provider="well")
            for n in range(CHANCES // 4):
                yield {"id": "%s chaos %s by chance, then itself%s %d" % (d.name, switch, tail, n), "send": stream,
                       "config": fallback(d, url, {"x-aimock-chaos-" + switch: "0.5"}),
                       "ask": dict(base_ask("chaos", d, stream, "r"), max_attempts=2)}, good
        late = {"x-aimock-chaos-latency": "400"}
        yield {"id": "%s chaos latency%s" % (d.name, tail), "config": config(d, url, late), "send": stream,
               "ask": base_ask("chaos", d, stream)}, dict(good, min_ms=380)
        yield {"id": "%s chaos latency beyond the deadline%s" % (d.name, tail), "send": stream,
               "config": config(d, url, {"x-aimock-chaos-latency": "8000"}),
               "ask": dict(base_ask("chaos", d, stream), deadline_ms=300)}, {"error": "E_DEADLINE", "max_ms": 1300}
        for n in range(CHANCES):  # all at once, and only what the call brings along to survive it
            yield {"id": "%s chaos all%s %d" % (d.name, tail, n), "send": n % 2 == 0,
                   "config": config(d, url, {"x-aimock-chaos-" + s: "0.25" for s in CHAOS}),
                   "ask": dict(base_ask("chaos", d, stream), max_attempts=1)}, {"one of": [good] + list(CHAOS.values())}


def cut_jobs(d, url):
    """Streams that break off: aimock stops after n events, or after some time."""
    for case in ["cut%d" % n for n in CUTS] + ["gone40", "gone120"]:
        broken = {"error": ("E_TRUNCATED", "E_NETWORK"), "begins": WORDS}
        yield {"id": "%s %s" % (d.name, case), "config": config(d, url), "send": True,
               "ask": base_ask(case, d, True)}, broken
        ask = dict(base_ask(case, d, True, "r"), max_attempts=3, max_resumes=-1)
        # The second target's script has the same prompt, so it breaks off too: every attempt fails, none is mixed.
        yield {"id": "%s %s, and again" % (d.name, case), "config": fallback(d, url), "ask": ask}, broken
    yield {"id": "%s slow" % d.name, "config": config(d, url), "ask": base_ask("slow", d, True)}, \
        {"text": WORDS, "finish": "stop", "min_ms": 200}
    mute = dict(base_ask("mute", d, True), first_token_ms=250)
    yield {"id": "%s mute" % d.name, "config": config(d, url), "ask": mute}, \
        {"error": "E_TIMEOUT_FIRST_TOKEN", "max_ms": 1300}


# ---- what came ---------------------------------------------------------------------------------------

def wrong(want, o):
    """What is not as it must be, as text."""
    if "one of" in want:
        tries = [wrong(w, o) for w in want["one of"]]
        return [] if not all(tries) else ["none of what it may be: %s %s" % (o["error"]["code"], o["error"]["text"])]
    e, out = o["error"], []

    def need(what, ok, got):
        if not ok:
            out.append("%s: %s" % (what, conform.short(got)))

    codes = want.get("error", "OK")
    codes = (codes,) if isinstance(codes, str) else codes
    need("error, not " + "/".join(codes), e["code"] in codes, [e["code"], e["text"]])
    if "says" in want:
        need("error's text without " + want["says"], want["says"] in e["text"], e["text"])
    if "status" in want:
        need("status, not %d" % want["status"], e["status"] == want["status"], e["status"])
    for k in ("text", "reasoning", "finish", "provider", "turns"):
        if k in want:
            need(k, o[k] in want[k] if isinstance(want[k], tuple) else o[k] == want[k], o[k])
    if "begins" in want:
        need("not the beginning of the text", want["begins"].startswith(o["text"]), o["text"])
    if "retry_after_ms" in want:
        need("retry_after_ms", e["retry_after_ms"] == want["retry_after_ms"], e["retry_after_ms"])
    if "tools" in want:
        got = [[t["name"], conform.value_of(t["arguments"])] for t in o["tools"]]
        need("tools", got == want["tools"], got)
    if "json" in want:
        need("the text's value", conform.value_of(o["text"]) == want["json"], o["text"])
    if "usage" in want:
        got = [o["usage"]["input"], o["usage"]["output"]]
        need("usage", o["usage"]["known"] and got == want["usage"], got)
    need("too soon", o["ms"] >= want.get("min_ms", 0), o["ms"])
    need("too late", o["ms"] <= want.get("max_ms", 20500), o["ms"])
    return out + ["%s: %s" % (d[0], conform.short(d[1:])) for d in conform.laws(o)]


def list_switches(modules):
    """The header names of aimock's chaos, from the package itself."""
    code = ("import('%s/@copilotkit/aimock/dist/chaos.js').then(m => console.log(JSON.stringify("
            "Object.values(m.CHAOS_FIELDS).map(f => f.header))))" % os.path.abspath(modules))
    return set(json.loads(subprocess.run(["node", "-e", code], stdout=subprocess.PIPE, text=True, check=True).stdout))


def run(decode, jobs):
    """(id -> what came, or None for a job that decode left unanswered)"""
    text = "".join(json.dumps(j) + "\n" for j, _ in jobs)
    p = subprocess.run([decode], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=200)
    came = {}
    for line in p.stdout.splitlines():
        o = json.loads(line)
        came[o["id"]] = o
    return came, p.returncode, p.stderr.strip()


def judge(jobs, came):
    """(passed, failures, dialects that this header has not)"""
    good, bad, missing = 0, [], {}
    for job, want in jobs:
        o = came.get(job["id"])
        if o is None:
            bad.append("%s: no answer" % job["id"])
        elif "refused" in o:
            missing.setdefault(job["id"].split()[0], o["refused"])
        else:
            w = wrong(want, o)
            if w:
                bad.append("%s: %s" % (job["id"], "; ".join(w)))
            else:
                good += 1
    return good, bad, missing


# ---- what was asked, as aimock understood it -----------------------------------------------------------

HISTORY = {
    "system": "Be brief.", "tools": TOOLS, "temperature": 0.25, "max_tokens": 77,
    "messages": [
        {"role": "user", "text": "weather and time?", "parts": [{"kind": "image", "data": "not really one", "mime": "image/png"}]},
        {"role": "assistant", "parts": [
            {"kind": "text", "text": "I look."},
            {"kind": "call", "id": "call_a", "name": "weather", "arguments": "{\"city\":\"Paris\"}"},
            {"kind": "call", "id": "call_b", "name": "clock", "arguments": "{\"city\":\"Lyon\"}"}]},
        {"role": "tool", "parts": [
            {"kind": "result", "id": "call_a", "name": "weather", "text": "no such city", "is_error": True},
            {"kind": "result", "id": "call_b", "name": "clock", "text": "{\"time\":\"noon\"}"}]}]}

READ = {"system": ["Be brief."], "user": ["weather and time?", "case:history. What now?"], "said": "I look.",
        "calls": [["call_a", "weather", {"city": "Paris"}], ["call_b", "clock", {"city": "Lyon"}]],
        "failed": True, "result": {"time": "noon"}, "tools": ["weather", "clock"], "temperature": 0.25, "max_tokens": 77}


def text_of(content):
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content or [])


def read_back(body, unnamed):
    """aimock's journal keeps each request in the form of OpenAI's chat, whatever the dialect was. In it a user's
    text stands before tool results that came in the same message, so only the order within a role counts. unnamed: calls and results
    travel without ids, and aimock makes some up."""
    by = {}
    for m in body["messages"]:
        by.setdefault(m["role"], []).append(m)
    said, results = by.get("assistant", []), by.get("tool", [])
    calls = [[t["id"], t["function"]["name"], conform.value_of(t["function"]["arguments"])]
             for m in said for t in m.get("tool_calls") or []]
    ids = [m.get("tool_call_id") for m in results]
    if unnamed and len(results) == 2 and (ids == [None, None] or not set(ids) & {"call_a", "call_b"}):
        calls = [[w[0]] + c[1:] for w, c in zip(READ["calls"], calls)]
    elif ids != [c[0] for c in READ["calls"]]:
        results = []
    return {"system": [text_of(m["content"]) for m in by.get("system", [])],
            "user": [text_of(m["content"]) for m in by.get("user", [])],
            "said": "".join(text_of(m.get("content")) for m in said), "calls": calls,
            "failed": "no such city" in text_of(results[0]["content"]) if results else None,
            "result": conform.value_of(text_of(results[1]["content"])) if results else None,
            "tools": [t["function"]["name"] for t in body.get("tools", [])], "temperature": body.get("temperature"),
            "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens")}


def history_jobs(d, url):
    for stream in (False, True):
        name = "%s history%s" % (d.name, " streamed" if stream else "")
        ask = dict(base_ask("history", d, stream, "%s/%s" % (d.provider, d.plain)), **HISTORY)
        if d.name == "deepseek":  # takes no images
            ask["messages"] = [{k: v for k, v in HISTORY["messages"][0].items() if k != "parts"}] + HISTORY["messages"][1:]
        yield {"id": name, "config": config(d, url, {"x-test-id": name.replace(" ", "-")}), "ask": ask}, \
            {"text": "Understood.", "finish": "stop"}


def understood(server, jobs, missing):
    """(passed, failures): each history as it was read."""
    good, bad = 0, []
    for job, _ in jobs:
        if " history" not in job["id"] or job["id"].split()[0] in missing:
            continue
        url = "%s/__aimock/journal?testId=%s" % (server.url, job["id"].replace(" ", "-"))
        with urllib.request.urlopen(url, timeout=10) as r:
            entries = json.load(r)
        got = read_back(entries[0]["body"], job["id"].split()[0] in ("ollama", "vertex")) if len(entries) == 1 else {"requests": len(entries)}
        if job["id"].startswith("cohere "):  # what is said beside calls goes as their plan, which aimock does not read
            got["said"] = got.get("said") or READ["said"]
        wrongs = ["%s: %s" % (k, conform.short(got.get(k))) for k in READ if got.get(k) != READ[k]]
        if wrongs:
            bad.append("%s was understood as %s" % (job["id"], "; ".join(wrongs)))
        else:
            good += 1
    return good, bad


def start(modules, out):
    with open(os.path.join(out, "aimock.json"), "w") as f:
        json.dump(scripts(), f)
    return servers.Server("aimock", ["node", os.path.join(modules, "@copilotkit/aimock/dist/cli.js"), "-p", "{port}", "-f",
                                     os.path.join(out, "aimock.json"), "--validate-on-load", "--strict", "--log-level",
                                     "warn", "--journal-max", "0"], os.path.join(out, "aimock.log"), path="/health")


def main():
    decode, modules, out = sys.argv[1:4]
    began = time.time()
    try:
        s = start(modules, out)
    except servers.NoServer as e:
        print("SKIP aimock.py: %s" % e)
        print("0 passed, 0 failed, 1 skipped")
        return 0
    jobs = []
    for d in DIALECTS:
        others = [x for x in DIALECTS[:3] if x.name != d.name]
        jobs += itertools.chain(plain_jobs(d, s.url), chaos_jobs(d, s.url, others), cut_jobs(d, s.url),
                                history_jobs(d, s.url))
    jobs = [j for j in jobs if ONLY in j[0]["id"]]
    came, status, note = run(decode, jobs)
    good, bad, missing = judge(jobs, came)
    read, misread = understood(s, jobs, missing)
    good, bad = good + read, bad + misread
    if status:
        bad.append("decode ended with status %d: %s" % (status, note[-500:]))
    switches = {"x-aimock-chaos-" + c for c in CHAOS} | {"x-aimock-chaos-latency"}
    if list_switches(modules) != switches:
        bad.append("aimock's chaos switches are %s" % sorted(list_switches(modules)))
    if not s.loopback_only():
        bad.append("aimock listens beyond loopback")
    s.stop()
    for line in bad[:60]:
        print("FAIL aimock: %s" % line)
    for name, why in missing.items():
        print("SKIP aimock %s: %s" % (name, why))
    print("aimock: %d dialects, %s; %.1f s" % (len(DIALECTS) - len(missing), note, time.time() - began))
    print("%d passed, %d failed, %d skipped" % (good, len(bad), len(missing)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
