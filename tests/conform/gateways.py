#!/usr/bin/env python3
"""llmgw.h behind gateways that others wrote: litellm's proxy and @portkey-ai/gateway, whose upstream is aimock (see
aimock.py). What reaches llmgw.h is then worded and framed by them.

    gateways.py DECODE NODE_MODULES OUT [LITELLM]     LITELLM: a python that has litellm[proxy]"""
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import aimock  # noqa: E402
import servers  # noqa: E402

MASTER = "sk-" + "c0nform5" * 6  # of the proxy that lives as long as this test; litellm wants a long one

# litellm's name for a model -> the upstream it takes it from: all of them are aimock, in three dialects.
MODELS = {"gpt-5": ("openai", "/v1"), "claude-sonnet-4-5": ("anthropic", ""), "gemini-2.5-flash": ("gemini", "/v1beta")}


def litellm(python, mock, out):
    models = [{"model_name": m, "litellm_params": {"model": "%s/%s" % (p, m), "api_key": "sk-upstream",
                                                   "api_base": mock.url + base}} for m, (p, base) in MODELS.items()]
    for name, answer in (("mock", "It is litellm itself."), ("limited", "litellm.RateLimitError"),
                         ("broken", "litellm.InternalServerError")):
        models.append({"model_name": name, "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk-none",
                                                              "mock_response": answer}})
    with open(os.path.join(out, "litellm.json"), "w") as f:  # JSON is YAML too
        json.dump({"model_list": models, "router_settings": {"num_retries": 0, "disable_cooldowns": True},
                   "general_settings": {"forward_client_headers_to_llm_api": True},
                   "litellm_settings": {"telemetry": False, "num_retries": 0}}, f)
    args = [os.path.join(os.path.dirname(python), "litellm"), "--config", f.name, "--host", "127.0.0.1", "--port", "{port}",
            "--telemetry", "False"]
    return servers.Server("litellm", args, os.path.join(out, "litellm-proxy.log"), path="/health/liveliness", wait=90,
                          env={"LITELLM_MASTER_KEY": MASTER, "LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def portkey(modules, out):
    args = ["node", "-r", os.path.join(HERE, "loopback.cjs"),
            os.path.join(modules, "@portkey-ai/gateway/build/start-server.js"), "--port={port}", "--headless"]
    return servers.Server("portkey", args, os.path.join(out, "portkey.log"), wait=30,
                          env={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"})


def by_litellm(s, mock):
    key = {"key": MASTER}
    for model in MODELS:
        yield aimock.Dialect("litellm-openai:" + MODELS[model][0], "openai", "/v1", model, model, extra=key)
    yield aimock.Dialect("litellm-messages", "anthropic", "/v1", "claude-sonnet-4-5", "claude-sonnet-4-5", extra=key)
    yield aimock.Dialect("litellm-responses", "openai", "/v1", "gpt-5", "gpt-5", extra=key, dialect="responses")
    yield aimock.Dialect("litellm-gemini", "gemini", "/v1beta", "gemini-2.5-flash", "gemini-2.5-flash", extra=key)


def by_portkey(s, mock):
    for provider, base, model, dialect in (("openai", "/v1", "gpt-5", None), ("anthropic", "/v1", "claude-sonnet-4-5", None),
                                           ("google", "", "gemini-2.5-flash", None), ("openai", "/v1", "gpt-5", "responses"),
                                           ("anthropic", "/v1", "claude-sonnet-4-5", "anthropic")):
        headers = {"x-portkey-provider": provider, "x-portkey-custom-host": mock.url + base,
                   "Authorization": "Bearer sk-upstream",
                   "x-portkey-forward-headers": ",".join("x-aimock-chaos-" + c for c in list(aimock.CHAOS) + ["latency"])}
        yield aimock.Dialect("portkey%s:%s" % ("-" + dialect if dialect else "", provider), "portkey", "/v1", model, model,
                             extra={"headers": headers}, dialect=dialect)


# What does not come through a gateway as aimock scripted it, and whose doing that is. Not asked.
LOST = [
    (" halves streamed", "litellm and Portkey fail on half a character"),
    ("litellm-openai:gemini system", "litellm says system_instruction to Gemini, aimock knows systemInstruction only"),
    ("litellm-openai:gemini tools answered", "litellm says function_response to Gemini, aimock knows functionResponse only"),
    ("portkey:google tools answered", "Portkey's role for results is function, aimock knows user only"),
    ("portkey:google ", "Portkey cannot read Gemini streams whose lines end in LF, as aimock's do"),
    ("portkey:anthropic reasoning", "Portkey leaves reasoning out of OpenAI's form"),
    ("portkey:google reasoning", "Portkey leaves reasoning out of OpenAI's form"),
]


def lost(name):
    for part, _ in LOST:
        if part in name and (part != "portkey:google " or name.endswith(" streamed")):
            return part
    return None


def scripted(d, url):
    """The scripts, but for what gateways do to errors: they word them anew, and drop Retry-After."""
    for job, want in aimock.plain_jobs(d, url):
        if lost(job["id"]):
            continue
        want = {k: v for k, v in want.items() if k != "retry_after_ms"}
        if "error503" in job["id"]:  # Anthropic's overloaded_error becomes a 500 in litellm
            want = dict(want, error=("E_OVERLOADED", "E_PROVIDER"))
            del want["status"]
        yield job, want


NAMED = {"error": ("E_PROVIDER", "E_PROTOCOL", "E_NETWORK", "E_RATE_LIMITED", "E_OVERLOADED", "E_TRUNCATED", "E_BAD_REQUEST"),
         "text": ""}


# litellm makes a well formed stream without text of an upstream's stream that makes no sense: from that
# only request.valid (or the route's) protects.
SWALLOWED = {"one of": [NAMED, {"text": "", "tools": [], "finish": "stop"}]}


def chaotic(d, url, mock):
    """aimock misbehaves behind the gateway: an error by whatever name the gateway gives it, never another text; and
    the whole text from a second target."""
    good = {"text": aimock.WORDS, "finish": "stop"}
    if d.name == "litellm-gemini":  # there it does not hand the headers on
        return
    for switch in aimock.CHAOS:
        for stream in (False, True):
            if lost(d.name + " chaos" + (" streamed" if stream else "")):
                continue
            thrown = {"x-aimock-chaos-" + switch: "1"}
            tail = " %s%s" % (switch, " streamed" if stream else "")
            yield {"id": d.name + " chaos" + tail, "config": aimock.config(d, url, thrown), "send": stream,
                   "ask": aimock.base_ask("chaos", d, stream)}, SWALLOWED if switch == "malformed" and stream else NAMED
            c = aimock.fallback(d, url, thrown)
            c["routes"]["r"]["valid"] = ["not_empty"]
            c["providers"]["well"] = dict(aimock.DIALECTS[0].row(mock.url), dialect="openai")
            yield {"id": d.name + " chaos, then aimock itself" + tail, "config": c, "send": not stream,
                   "ask": dict(aimock.base_ask("chaos", d, stream, "r"), max_attempts=2)}, dict(good, provider="well")
    yield {"id": d.name + " chaos latency", "config": aimock.config(d, url, {"x-aimock-chaos-latency": "8000"}),
           "ask": dict(aimock.base_ask("chaos", d, False), deadline_ms=400)}, {"error": "E_DEADLINE", "max_ms": 1500}


def of_litellm(url):
    """litellm's own mock answers, in the dialects that it speaks."""
    for provider, base in (("openai", "/v1"), ("anthropic", "/v1")):
        for model, want in (("mock", {"text": "It is litellm itself.", "finish": "stop"}), ("limited", {"error": "E_RATE_LIMITED"}),
                            ("broken", {"error": "E_PROVIDER", "status": 500}), ("none-such", {"error": "E_BAD_REQUEST"})):
            d = aimock.Dialect("litellm itself:" + provider, provider, base, model, model, extra={"key": MASTER})
            for stream in (False, True):
                yield {"id": "%s %s%s" % (d.name, model, " streamed" if stream else ""), "config": aimock.config(d, url),
                       "ask": aimock.base_ask("text", d, stream)}, want
        d = aimock.Dialect("litellm itself:" + provider, provider, base, "mock", "mock", extra={"key": "sk-wrong"})
        yield {"id": d.name + " wrong key", "config": aimock.config(d, url), "ask": aimock.base_ask("text", d, False)}, \
            {"error": ("E_AUTH", "E_BAD_REQUEST")}


def main():
    decode, modules, out = sys.argv[1:4]
    python = sys.argv[4] if len(sys.argv) > 4 else None
    began = time.time()
    jobs, running, skipped, bad = [], [], 0, []

    def up(name, start):
        try:
            s = start()
        except servers.NoServer as e:
            print("SKIP gateways.py: %s" % e)
            return None
        running.append(s)
        return s

    mock = up("aimock", lambda: aimock.start(modules, out))
    l = mock and python and up("litellm", lambda: litellm(python, mock, out))
    p = mock and up("portkey", lambda: portkey(modules, out))
    if not python:
        print("SKIP gateways.py: litellm's proxy could not be installed")
    for s, dialects in ((l, by_litellm), (p, by_portkey)):
        if not s:
            skipped += 1
            continue
        for d in dialects(s, mock):
            jobs += scripted(d, s.url)
            jobs += chaotic(d, s.url, mock)
    if l:
        jobs += of_litellm(l.url)
    jobs = [j for j in jobs if aimock.ONLY in j[0]["id"]]
    started = time.time() - began
    came, status, note = aimock.run(decode, jobs)
    good, bad, missing = aimock.judge(jobs, came)
    if status:
        bad.append("decode ended with status %d: %s" % (status, note[-500:]))
    bad += ["%s listens beyond loopback" % s.name for s in running if not s.loopback_only()]
    for s in running:
        s.stop()
    for line in bad[:60]:
        print("FAIL gateways: %s" % line)
    print("gateways: %s; %s; %.1f s to start, %.1f s in all" % (", ".join(s.name for s in running), note, started, time.time() - began))
    print("%d passed, %d failed, %d skipped" % (good, len(bad), skipped + len(missing)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
