"""Requests built by llmgw.h (ask.c), captured by the replay server, checked against the types which the
vendors' own SDKs give to their requests: every key must be one that the type knows, with a value it takes.
(Not named requests.py: that would hide the module which google-genai imports.)"""
import base64
import json
import subprocess

import differences
from anthropic.types import message_create_params
from google.genai import types as g
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter, ValidationError

LOOPS = [
    # name given to ask, fixture
    ("loop-openai-plain", "openai-chat/pydanticai__test_openai_native_output.1.response.json"),
    ("loop-openai-stream", "openai-chat/llm__test_tool_use_basic.1.response.sse"),
    ("loop-openai-noid", "openai-chat/pydanticai__test_compatible_api_with_tool_calls_without_id.1.response.json"),
    ("loop-anthropic-thinking", "anthropic-messages/pydanticai__test_anthropic_tool_with_thinking.1.response.json"),
    ("loop-anthropic-redacted",
     "anthropic-messages/pydanticai__test_anthropic_model_thinking_part_redacted.2.response.json"),
    ("loop-anthropic-parallel", "anthropic-messages/pydanticai__test_multiple_parallel_tool_calls.1.response.json"),
    ("loop-anthropic-stream", "anthropic-messages/pydanticai__test_anthropic_model_thinking_part_stream.response.sse"),
    ("loop-anthropic-streamtool", "anthropic-messages/llm-anthropic__test_tools.1.response.sse"),
    ("loop-gemini-signature", "gemini-generatecontent/vercel__google-tool-call-gemini3.json"),
    ("loop-gemini-streamsignature", "gemini-generatecontent/vercel__google-tool-call-gemini3.sse"),
    ("loop-gemini-streamthought",
     "gemini-generatecontent/pydanticai__test_google_streaming_tool_call_thought_signature.1.response.sse"),
    ("loop-deepseek-reasoning",
     "deepseek/pydanticai__test_deepseek_deferred_capability_with_thinking.1.response.json"),
    ("loop-openrouter-details", "openrouter/pydanticai__test_openrouter_thinking_high_emits_effort_high.response.json"),
]

OPENAI = [TypeAdapter(completion_create_params.CompletionCreateParamsNonStreaming),
          TypeAdapter(completion_create_params.CompletionCreateParamsStreaming)]
ANTHROPIC = [TypeAdapter(message_create_params.MessageCreateParamsNonStreaming),
             TypeAdapter(message_create_params.MessageCreateParamsStreaming)]


def plain(v):
    """pydantic hands Iterable fields out lazily: walk them."""
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    if isinstance(v, (str, bytes, int, float, bool)) or v is None:
        return v
    return [plain(x) for x in v]


def unknown(sent, kept, where=""):
    """Keys that the types did not know: validation drops them."""
    out = []
    if isinstance(sent, dict) and isinstance(kept, dict):
        for k, v in sent.items():
            if k not in kept:
                out.append(where + "." + k)
            else:
                out += unknown(v, kept[k], where + "." + k)
    elif isinstance(sent, list) and isinstance(kept, list):
        for i, (a, b) in enumerate(zip(sent, kept)):
            out += unknown(a, b, "%s[%d]" % (where, i))
    return out


def typed(adapters, body, name):
    a = adapters[1 if body.get("stream") else 0]
    kept = plain(a.validate_python(body))
    allowed = differences.UNKNOWN_KEYS.get(name, [])
    odd = unknown(body, kept)
    return ["the SDK's type has no " + k for k in odd if k not in allowed] + \
           ["differences.py: no longer so: UNKNOWN_KEYS %s %s" % (name, k) for k in allowed if k not in odd]


def gemini(body, path):
    out = []
    known = {"contents", "tools", "toolConfig", "systemInstruction", "generationConfig", "safetySettings",
             "cachedContent", "labels"}
    out += ["no such field: " + k for k in set(body) - known]
    for c in body["contents"]:
        g.Content.model_validate(c)
        if c.get("role") not in ("user", "model"):
            out.append("role %r" % c.get("role"))
    roles = [c["role"] for c in body["contents"]]
    if any(a == b for a, b in zip(roles, roles[1:])):
        out.append("turns do not alternate: %s" % roles)
    for t in body.get("tools", []):
        g.Tool.model_validate(t)
    if "toolConfig" in body:
        g.ToolConfig.model_validate(body["toolConfig"])
    if "systemInstruction" in body:
        g.Content.model_validate(body["systemInstruction"])
    if "generationConfig" in body:
        g.GenerationConfig.model_validate(body["generationConfig"])
    if "/models/replay:" not in path:
        out.append("path " + path)
    return out


def need(out, ok, what):
    if not ok:
        out.append(what)


def meaning(name, body, fixture):
    """What the case asked for must be in the body."""
    out = []
    provider, case = name.split("-", 1)
    whole = json.dumps(body, ensure_ascii=False)
    if case == "least":
        need(out, json.dumps("line one\nline \"two\" \U0001F986", ensure_ascii=False)[1:-1] in whole, "the prompt")
    if case == "images":
        png = base64.b64encode(bytes([0x89]) + b"PNG\r\n\x1a\n\0\0\0\r\xff\0").decode()
        need(out, png in whole, "the image's bytes")
        need(out, base64.b64encode(b"%PDF-1.4").decode() in whole, "the file's bytes")
        need(out, "https://example.com/a.png" in whole, "the image's URL")
    if case == "schema":
        need(out, '"age"' in whole and '"integer"' in whole, "the schema")
    if case == "settings":
        need(out, "77" in whole and '"END"' in whole and "Be brief." in whole, "max_tokens, stop, system")
        t = body.get("temperature", body.get("generationConfig", {}).get("temperature"))
        need(out, t == 0 and t is not None, "temperature 0")
    if case.startswith("tools-"):
        choice = {"openai": body.get("tool_choice", "auto"), "anthropic": body.get("tool_choice"),
                  "gemini": body.get("toolConfig", {}).get("functionCallingConfig", {})}[provider]
        mode = case[6:]
        want = {
            "openai": {"auto": "auto", "none": "none", "required": "required",
                       "one": {"type": "function", "function": {"name": "clock"}}},
            "anthropic": {"auto": "auto", "none": "none", "required": "any", "one": "tool"},
            "gemini": {"auto": "AUTO", "none": "NONE", "required": "ANY", "one": "ANY"},
        }[provider][mode]
        if provider == "anthropic":
            choice = (choice or {"type": "auto"})["type"]
        if provider == "gemini":
            choice = choice.get("mode", "AUTO")
        need(out, choice == want, "tool choice %s: %s" % (mode, choice))
        if mode == "required" and provider == "openai":
            need(out, body.get("parallel_tool_calls") is False, "parallel_tool_calls false")
        if mode == "required" and provider == "anthropic":
            need(out, body["tool_choice"].get("disable_parallel_tool_use") is True, "disable_parallel_tool_use")
    if case == "history" or case.startswith("loop") or name.startswith("loop"):
        if provider == "anthropic":
            ids = [b["id"] for m in body["messages"] for b in m["content"] if isinstance(m["content"], list)
                   and b["type"] == "tool_use"]
            back = [b["tool_use_id"] for m in body["messages"] if isinstance(m["content"], list)
                    for b in m["content"] if b["type"] == "tool_result"]
            need(out, ids == back, "results answer calls: %s %s" % (ids, back))
            roles = [m["role"] for m in body["messages"]]
            need(out, not any(a == b for a, b in zip(roles, roles[1:])), "roles do not alternate: %s" % roles)
        if provider == "openai":
            ids = [t["id"] for m in body["messages"] for t in m.get("tool_calls", [])]
            back = [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
            need(out, ids == back and all(ids), "results answer calls: %s %s" % (ids, back))
        if provider == "gemini":
            calls = [p["functionCall"]["name"] for c in body["contents"] for p in c["parts"] if "functionCall" in p]
            back = [p["functionResponse"]["name"] for c in body["contents"] for p in c["parts"]
                    if "functionResponse" in p]
            need(out, calls == back, "results answer calls: %s %s" % (calls, back))
    if fixture is not None:
        out += replayed(provider, body, fixture)
    return out


def replayed(provider, body, f):
    """Opaque reasoning goes back as it came."""
    out = []
    if provider == "anthropic":
        if f.stream:
            import plain as reading
            blocks = {}
            for _, data in reading.sse(f.body):
                d = json.loads(data)
                if d["type"] == "content_block_start" and d["content_block"]["type"] == "thinking":
                    blocks[d["index"]] = {"type": "thinking", "thinking": "", "signature": ""}
                if d["type"] == "content_block_delta" and d["index"] in blocks:
                    for k in ("thinking", "signature"):
                        blocks[d["index"]][k] += d["delta"].get(k, "")
            want = list(blocks.values())
        else:
            want = [b for b in json.loads(f.body)["content"] if b["type"] in ("thinking", "redacted_thinking")]
        said = [m for m in body["messages"] if m["role"] == "assistant"][0]["content"]
        got = [b for b in said if b["type"] in ("thinking", "redacted_thinking")] if isinstance(said, list) else []
        need(out, got == want, "thinking blocks go back unchanged: %s" % json.dumps(got)[:200])
        need(out, not want or said[0] == want[0], "thinking comes first")
    if provider == "gemini":
        def signed(objects):
            return [(p.get("functionCall", {}).get("name"), p["thoughtSignature"]) for o in objects
                    for c in o for p in c.get("parts", []) if p.get("thoughtSignature")]
        if f.stream:
            import plain as reading
            objects = [json.loads(d) for _, d in reading.sse(f.body)]
        else:
            objects = [json.loads(f.body)]
        want = signed([[c.get("content", {}) for c in o.get("candidates", [])] for o in objects])
        got = signed([body["contents"]])
        need(out, got == want, "thoughtSignature goes back on its part: want %s got %s" % (
            [(a, b[:12]) for a, b in want], [(a, b[:12]) for a, b in got]))
    if provider == "deepseek":
        want = json.loads(f.body)["choices"][0]["message"]
        got = [m for m in body["messages"] if m["role"] == "assistant"][0]
        need(out, got.get("reasoning_content") == want["reasoning_content"],
             "reasoning_content goes back within a tool loop (WIRE.md 5, DeepSeek)")
    if provider == "openrouter":
        want = json.loads(f.body)["choices"][0]["message"].get("reasoning_details")
        got = [m for m in body["messages"] if m["role"] == "assistant"][0].get("reasoning_details")
        need(out, got == want, "reasoning_details go back verbatim (WIRE.md 5, OpenRouter): %s" % json.dumps(got)[:80])
    return out


def run(ask, fx, server):
    """(how many passed, list of failures)"""
    index = {f.key: i for i, f in enumerate(fx)}
    args, fixture_of = [ask, str(server.port)], {}
    for name, key in LOOPS:
        provider = name.split("-")[1]
        base = fx[index[key]].base(server.port, index[key], 0)
        args.append("%s=%s%s" % (name, base, "/v1beta" if provider == "gemini" else "/v1"))
        fixture_of[name] = fx[index[key]]
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    good, bad = 0, []
    if p.returncode != 0:
        bad.append("ask ended with status %d: %s" % (p.returncode, p.stderr.strip()[-500:]))
    captured = {name: (path, headers, body) for name, path, headers, body in server.captured}
    for line in p.stdout.splitlines():
        name, code, status, text = line.split("\t", 3)
        if name not in captured:
            bad.append("request %s was not sent: %s %s" % (name, code, text))
    loops = {"%s-%s" % (n.split("-")[1], n): n for n, _ in LOOPS}
    for name, (path, headers, raw) in captured.items():
        out = []
        provider = name.split("-")[0]
        fixture = fixture_of.get(loops.get(name))
        try:
            body = json.loads(raw)
            if provider == "openai":
                out += typed(OPENAI, body, name)
                need(out, path.endswith("/chat/completions"), "path " + path)
                need(out, headers.get("authorization") == "Bearer sk-conform", "authorization")
            elif provider == "anthropic":
                out += typed(ANTHROPIC, body, name)
                need(out, path.endswith("/v1/messages"), "path " + path)
                need(out, headers.get("x-api-key") == "sk-conform", "x-api-key")
                need(out, headers.get("anthropic-version") == "2023-06-01", "anthropic-version")
            elif provider == "gemini":
                out += gemini(body, path)
                need(out, headers.get("x-goog-api-key") == "sk-conform", "x-goog-api-key")
            need(out, headers.get("content-type", "").startswith("application/json"), "content-type")
            out += meaning(name, body, fixture)
        except (ValueError, KeyError, IndexError, TypeError, ValidationError) as e:
            out.append("%s: %s" % (type(e).__name__, str(e)[:600]))
        if out:
            bad.append("request %s: %s" % (name, "; ".join(out)))
        else:
            good += 1
    print("requests checked against the SDKs' types: %d passed, %d failed" % (good, len(bad)))
    return good, bad
