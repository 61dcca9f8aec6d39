"""The plain reading: what a body means, by shared/WIRE.md alone, with nothing but json and a line splitter.
It shares no code with llmgw.h or an SDK."""
import json

CONTEXT = ("maximum context length", "prompt is too long", "input is too long",
           "exceeds the maximum number of tokens")


class Wrong(Exception):
    """The body is an error: code is llmgw.h's name for it."""

    def __init__(self, code, text="", status=0, retry_after_ms=0, partial=None):
        super().__init__(text)
        self.code, self.text, self.status, self.retry_after_ms = code, text, status, retry_after_ms
        self.partial = partial


def blank():
    return {"text": "", "reasoning": "", "refusal": None, "tools": [], "finish": None, "usage": None,
            "id": "", "model": "", "error": None}


def usage(input=0, output=0, cached=0, cache_write=0, cache_write_1h=0, reasoning=0):
    return {"input": input or 0, "output": output or 0, "cached": cached or 0,
            "cache_write": cache_write or 0, "cache_write_1h": cache_write_1h or 0,
            "reasoning": reasoning or 0}


def sse(body):
    """(event, data) for each dispatched event, and for an unterminated last one."""
    text = body.decode("utf-8")
    if text.startswith("\ufeff"):
        text = text[1:]
    event, data = "", []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") + [""]:
        if line == "":
            if data:
                yield event, "\n".join(data)
            event, data = "", []
            continue
        if line.startswith(":"):
            continue
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value


def parse(text):
    try:
        return json.loads(text)
    except ValueError as e:
        raise Wrong("E_PROTOCOL", str(e))


# ---- errors -----------------------------------------------------------------------------------

def error_of(status, value, headers=None):
    """Wrong for an HTTP status and/or an error body."""
    e = value.get("error", value) if isinstance(value, dict) else value
    text, code, kind, retry, quota = "", None, "", 0, ""
    if isinstance(e, str):
        text = e
    elif isinstance(e, dict):
        text = e.get("message") or ""
        code = e.get("code")
        kind = e.get("type") or e.get("status") or ""
        status = status if status >= 400 else (e.get("status_code") or 0)
        for d in e.get("details") or []:
            if d.get("@type", "").endswith("RetryInfo"):
                retry = round(float(d["retryDelay"].rstrip("s")) * 1000)
            for v in d.get("violations", []):
                quota += v.get("quotaId", "")
    if status < 400 and isinstance(code, int):
        status = code
    low = text.lower()
    if code in ("context_length_exceeded",) or any(c in low for c in CONTEXT):
        name = "E_CONTEXT_LENGTH"
    elif code == "content_filter":
        name = "E_FILTERED"
    elif code in ("insufficient_quota", "credit_balance_exhausted") or status == 402 or "PerDay" in quota:
        name = "E_QUOTA"
    elif kind == "overloaded_error" or status in (503, 529) or kind == "UNAVAILABLE":
        name = "E_OVERLOADED"
    elif status == 429 or kind in ("rate_limit_error", "RESOURCE_EXHAUSTED"):
        name = "E_RATE_LIMITED"
    elif status in (401, 403) or kind in ("authentication_error", "permission_error"):
        name = "E_AUTH"
    elif status == 404 or kind == "not_found_error":
        name = "E_NOT_FOUND"
    elif status in (400, 413, 422) or kind == "invalid_request_error":
        name = "E_BAD_REQUEST"
    else:
        name = "E_PROVIDER"
    return Wrong(name, text, retry_after_ms=retry)


# ---- openai -----------------------------------------------------------------------------------

OPENAI_FINISH = {"stop": "stop", "length": "length", "model_length": "length", "tool_calls": "tool",
                 "function_call": "tool", "content_filter": "filter"}


def openai_usage(u):
    if not u:
        return None
    p, c = u.get("prompt_tokens") or 0, u.get("completion_tokens") or 0
    pd, cd = u.get("prompt_tokens_details") or {}, u.get("completion_tokens_details") or {}
    r = cd.get("reasoning_tokens") or 0
    out = c
    if r and u.get("total_tokens") == p + c + r:  # xAI counts reasoning beside completion
        out = c + r
    return usage(p, out, pd.get("cached_tokens") or u.get("prompt_cache_hit_tokens")
                 or u.get("cached_tokens") or 0,
                 pd.get("cache_write_tokens") or pd.get("cache_creation_input_tokens") or 0, 0, r)


def openai_content(r, content):
    if isinstance(content, str):
        r["text"] += content
    for part in content if isinstance(content, list) else []:
        if part.get("type") == "thinking":
            for t in part.get("thinking") or []:
                r["reasoning"] += t.get("text") or ""
        elif part.get("type") == "text":
            r["text"] += part.get("text") or ""


def openai_message(r, m):
    openai_content(r, m.get("content"))
    if isinstance(m.get("reasoning_content"), str):
        r["reasoning"] += m["reasoning_content"]
    elif isinstance(m.get("reasoning"), str):
        r["reasoning"] += m["reasoning"]
    if m.get("refusal"):
        r["refusal"] = (r["refusal"] or "") + m["refusal"]


def openai_arguments(a):
    if a is None:
        return ""
    return a if isinstance(a, str) else json.dumps(a)


def openai_close(r, raw):
    if raw == "error" or raw == "insufficient_system_resource":
        raise Wrong("E_PROVIDER", partial=r)
    r["finish"] = OPENAI_FINISH.get(raw, "stop")
    if r["tools"] and r["finish"] == "stop":
        r["finish"] = "tool"
    for t in r["tools"]:
        t["arguments"] = t["arguments"] or "{}"
    return r


def openai_json(body):
    d = parse(body)
    if not isinstance(d, dict):
        raise Wrong("E_PROTOCOL")
    if d.get("error"):
        raise error_of(0, d)
    if not d.get("choices"):
        raise Wrong("E_PROTOCOL", "no choices")
    r = blank()
    c = d["choices"][0]
    m = c.get("message") or {}
    openai_message(r, m)
    for t in m.get("tool_calls") or []:
        f = t.get("function") or {}
        r["tools"].append({"id": t.get("id") or "", "name": f.get("name") or "",
                           "arguments": openai_arguments(f.get("arguments"))})
    r["usage"] = openai_usage(d.get("usage"))
    r["id"], r["model"] = d.get("id") or "", d.get("model") or ""
    return openai_close(r, c.get("finish_reason"))


def openai_stream(body):
    r, calls, raw, done = blank(), {}, None, False
    for event, data in sse(body):
        if data.strip() == "[DONE]":
            done = True
            break
        d = parse(data)
        if event == "error" or d.get("error"):
            w = error_of(0, d)
            w.partial = r
            raise w
        r["id"], r["model"] = r["id"] or d.get("id") or "", r["model"] or d.get("model") or ""
        u = d.get("usage") or (d.get("x_groq") or {}).get("usage")
        if u:
            r["usage"] = openai_usage(u)
        for c in d.get("choices") or []:
            if c.get("index", 0) != 0:
                continue
            raw = c.get("finish_reason") or raw
            delta = c.get("delta") or {}
            openai_message(r, delta)
            for n, t in enumerate(delta.get("tool_calls") or []):
                f = t.get("function") or {}
                i = t.get("index")
                i = ("no index", n) if i is None else i
                if i not in calls:
                    calls[i] = {"id": "", "name": "", "arguments": ""}
                    r["tools"].append(calls[i])
                call = calls[i]
                call["id"] = call["id"] or t.get("id") or ""
                call["name"] = call["name"] or f.get("name") or ""
                call["arguments"] += openai_arguments(f.get("arguments"))
    if raw is None:
        if not done:
            raise Wrong("E_TRUNCATED", partial=r)
        if not (r["text"] or r["tools"] or r["reasoning"]):
            raise Wrong("E_PROTOCOL", "nothing in it", partial=r)
    return openai_close(r, raw)


# ---- anthropic --------------------------------------------------------------------------------

ANTHROPIC_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length",
                    "model_context_window_exceeded": "length", "tool_use": "tool", "refusal": "filter",
                    "pause_turn": "pause"}


def anthropic_usage(u):
    read, write = u.get("cache_read_input_tokens") or 0, u.get("cache_creation_input_tokens") or 0
    return usage((u.get("input_tokens") or 0) + read + write, u.get("output_tokens"), read, write,
                 (u.get("cache_creation") or {}).get("ephemeral_1h_input_tokens"),
                 (u.get("output_tokens_details") or {}).get("thinking_tokens"))


def anthropic_close(r, stop, details):
    r["finish"] = ANTHROPIC_FINISH.get(stop, "stop")
    if r["tools"] and r["finish"] == "stop":
        r["finish"] = "tool"
    if stop == "refusal":
        r["refusal"] = (details or {}).get("explanation")
    return r


def anthropic_json(body):
    d = parse(body)
    if not isinstance(d, dict):
        raise Wrong("E_PROTOCOL")
    if d.get("type") == "error":
        raise error_of(0, d)
    if "content" not in d:
        raise Wrong("E_PROTOCOL")
    r = blank()
    for b in d["content"]:
        if b["type"] == "text":
            r["text"] += b["text"]
        elif b["type"] == "thinking":
            r["reasoning"] += b["thinking"]
        elif b["type"] == "tool_use":
            r["tools"].append({"id": b["id"], "name": b["name"], "arguments": json.dumps(b["input"])})
    r["usage"] = anthropic_usage(d["usage"])
    r["id"], r["model"] = d["id"], d["model"]
    return anthropic_close(r, d["stop_reason"], d.get("stop_details"))


def anthropic_stream(body):
    r, u, blocks, stop, details, ended = blank(), {}, {}, None, None, False
    for event, data in sse(body):
        d = parse(data)
        t = d.get("type")
        if t == "error":
            w = error_of(0, d)
            w.partial = r
            raise w
        if t == "message_start":
            # The same one again is harmless. Another one while this one is open is two answers in one
            # stream (seen from a proxy): no reading of it is right. vercel/ai, where the fixture is from,
            # calls it an error too.
            if r["id"] == d["message"]["id"]:
                continue
            if r["id"]:
                for b in blocks.values():
                    r["text"] += b["text"] if b["type"] == "text" else ""
                raise Wrong("E_PROTOCOL", partial=r)
            u = dict(d["message"].get("usage") or {})
            r["id"], r["model"] = d["message"]["id"], d["message"]["model"]
        elif t == "content_block_start":
            b = d["content_block"]
            blocks[d["index"]] = entry = {"type": b["type"], "text": b.get("text", "") + b.get("thinking", ""),
                                          "json": "", "block": b}
            if b["type"] == "tool_use" and b.get("input"):
                entry["json"] = json.dumps(b["input"])
        elif t == "content_block_delta":
            b, x = blocks[d["index"]], d["delta"]
            b["text"] += x.get("text", "") + x.get("thinking", "")
            b["json"] += x.get("partial_json", "")
        elif t == "message_delta":
            stop = d["delta"].get("stop_reason") or stop
            details = d["delta"].get("stop_details") or details
            u.update({k: v for k, v in (d.get("usage") or {}).items() if v is not None})
        elif t == "message_stop":
            ended = True
    for i in sorted(blocks):
        b = blocks[i]
        if b["type"] == "text":
            r["text"] += b["text"]
        elif b["type"] == "thinking":
            r["reasoning"] += b["text"]
        elif b["type"] == "tool_use":
            r["tools"].append({"id": b["block"]["id"], "name": b["block"]["name"],
                               "arguments": b["json"] or "{}"})
    if not ended:
        raise Wrong("E_TRUNCATED", partial=r)
    r["usage"] = anthropic_usage(u)
    return anthropic_close(r, stop, details)


# ---- gemini -----------------------------------------------------------------------------------

GEMINI_FILTER = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"}
GEMINI_ERROR = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "OTHER", "LANGUAGE",
                "NO_IMAGE"}


def gemini(objects):
    r, raw, blocked, u, open_call = blank(), None, None, None, None
    for d in objects:
        if d.get("error"):
            w = error_of(0, d)
            w.partial = r
            raise w
        r["id"], r["model"] = r["id"] or d.get("responseId") or "", r["model"] or d.get("modelVersion") or ""
        u = d.get("usageMetadata") or u
        if (d.get("promptFeedback") or {}).get("blockReason"):
            blocked = d["promptFeedback"]
        for c in (d.get("candidates") or [])[:1]:
            raw = c.get("finishReason") or raw
            for p in (c.get("content") or {}).get("parts") or []:
                if "functionCall" in p:
                    f = p["functionCall"]
                    if open_call is None:
                        open_call = {"id": f.get("id") or "", "name": f.get("name") or "", "args": {}}
                        r["tools"].append(open_call)
                    open_call["args"].update(f.get("args") or {})
                    for a in f.get("partialArgs") or []:
                        assert a["jsonPath"].startswith("$.")  # flat in the fixtures
                        key = a["jsonPath"][2:]
                        if "stringValue" in a:
                            open_call["args"][key] = open_call["args"].get(key, "") + a["stringValue"]
                        else:
                            open_call["args"][key] = a.get("numberValue", a.get("boolValue"))
                    if not f.get("willContinue"):
                        open_call = None
                elif "text" in p:
                    r["reasoning" if p.get("thought") else "text"] += p["text"]
    for t in r["tools"]:
        t["arguments"] = json.dumps(t.pop("args"))
    if u and any(k.endswith("TokenCount") for k in u):
        r["usage"] = usage((u.get("promptTokenCount") or 0) + (u.get("toolUsePromptTokenCount") or 0),
                           (u.get("candidatesTokenCount") or 0) + (u.get("thoughtsTokenCount") or 0),
                           u.get("cachedContentTokenCount"), 0, 0, u.get("thoughtsTokenCount"))
    if blocked:
        r["finish"], r["refusal"] = "filter", blocked.get("blockReasonMessage") or blocked["blockReason"]
        return r
    if raw is None:
        raise Wrong("E_TRUNCATED", partial=r)
    if raw in GEMINI_ERROR:
        raise Wrong("E_PROVIDER", raw, partial=r)
    if raw in GEMINI_FILTER or raw.startswith("IMAGE_"):
        r["finish"] = "filter"
    else:
        r["finish"] = {"STOP": "stop", "MAX_TOKENS": "length"}.get(raw, "stop")
        if r["tools"] and r["finish"] == "stop":
            r["finish"] = "tool"
    return r


# ---- one for all ------------------------------------------------------------------------------

def read(f):
    """The facts of a fixture. error is {"code", "text", "status", "retry_after_ms"} or None."""
    try:
        if f.status >= 400:
            try:
                value = json.loads(f.body)
            except ValueError:
                value = {}
            w = error_of(f.status, value)
            w.status = f.status
            raise w
        if f.dialect == "openai":
            return openai_stream(f.body) if f.stream else openai_json(f.body)
        if f.dialect == "anthropic":
            return anthropic_stream(f.body) if f.stream else anthropic_json(f.body)
        if f.array:
            return gemini(parse(f.body))
        if not f.stream:
            return gemini([parse(f.body)])
        return gemini([parse(d) for _, d in sse(f.body)])
    except Wrong as w:
        r = w.partial or blank()
        r["error"] = {"code": w.code, "text": w.text, "status": w.status or f.status,
                      "retry_after_ms": w.retry_after_ms}
        return r
