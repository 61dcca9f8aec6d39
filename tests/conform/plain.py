"""The plain reading: what a body means, by shared/WIRE.md alone, with nothing but json and a line splitter.
It shares no code with llmgw.h or an SDK."""
import json
import struct
import zlib

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
        raise Wrong("E_PROTOCOL") from e


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


# ---- responses --------------------------------------------------------------------------------

def responses_usage(u):
    if not u:
        return None
    i, o = u.get("input_tokens_details") or {}, u.get("output_tokens_details") or {}
    return usage(u.get("input_tokens"), u.get("output_tokens"), i.get("cached_tokens"), i.get("cache_write_tokens"), 0,
                 o.get("reasoning_tokens"))


def responses(d, partial=None):
    """A response object, whole."""
    if not isinstance(d, dict) or "output" not in d:
        raise Wrong("E_PROTOCOL")
    if d.get("error"):
        w = error_of(0, d)
        w.partial = partial
        raise w
    r = blank()
    thoughts = []
    for item in d["output"]:
        if item["type"] == "message":
            for c in item["content"]:
                r["text"] += c.get("text") or ""
                if c.get("refusal"):
                    r["refusal"] = (r["refusal"] or "") + c["refusal"]
        elif item["type"] == "function_call":
            r["tools"].append({"id": item["call_id"], "name": item["name"], "arguments": item["arguments"] or "{}"})
        elif item["type"] == "reasoning":
            thoughts += [s["text"] for s in item.get("summary") or []]
    r["reasoning"] = "\n\n".join(thoughts)
    r["id"], r["model"], r["usage"] = d["id"], d["model"], responses_usage(d.get("usage"))
    if d["status"] == "incomplete":
        why = (d.get("incomplete_details") or {}).get("reason")
        r["finish"] = "filter" if why == "content_filter" else "length"
    else:
        r["finish"] = "tool" if r["tools"] else "stop"
    return r


def responses_stream(body):
    """The last event has the whole response in it; what came before it counts only where it does not come."""
    r = blank()
    for event, data in sse(body):
        if data == "[DONE]":
            break
        d = parse(data)
        t = d.get("type")
        if t == "error":
            w = error_of(0, d if d.get("error") else {"error": d})
            w.partial = r
            raise w
        if t == "response.output_text.delta":
            r["text"] += d["delta"]
        if t in ("response.completed", "response.incomplete", "response.failed"):
            return responses(d["response"], r)
    raise Wrong("E_TRUNCATED", partial=r)


# ---- bedrock ----------------------------------------------------------------------------------

BEDROCK_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length",
                  "model_context_window_exceeded": "length", "tool_use": "tool", "guardrail_intervened": "filter",
                  "content_filtered": "filter"}
BEDROCK_ERROR = {"internalServerException": "E_PROVIDER", "modelStreamErrorException": "E_PROVIDER",
                 "validationException": "E_BAD_REQUEST", "throttlingException": "E_RATE_LIMITED",
                 "serviceUnavailableException": "E_OVERLOADED"}


def bedrock_usage(u):
    if not u:
        return None
    read, write = u.get("cacheReadInputTokens") or 0, u.get("cacheWriteInputTokens") or 0
    hour = sum(c.get("inputTokens") or 0 for c in u.get("cacheDetails") or [] if c.get("ttl") == "1h")
    return usage((u.get("inputTokens") or 0) + read + write, u.get("outputTokens"), read, write, hour)


def bedrock_close(r, stop):
    if stop.startswith("malformed"):
        raise Wrong("E_PROVIDER", stop, partial=r)
    r["finish"] = BEDROCK_FINISH.get(stop, "stop")
    if r["tools"] and r["finish"] == "stop":
        r["finish"] = "tool"
    if r["finish"] == "filter":
        r["refusal"] = stop
    for t in r["tools"]:
        t["arguments"] = t["arguments"] or "{}"
    return r


def bedrock_json(d, headers):
    r = blank()
    r["id"] = headers["x-amzn-RequestId"]
    for b in d["output"]["message"]["content"]:
        r["text"] += b.get("text") or ""
        for c in (b.get("citationsContent") or {}).get("content") or []:
            r["text"] += c.get("text") or ""
        r["reasoning"] += ((b.get("reasoningContent") or {}).get("reasoningText") or {}).get("text") or ""
        if "toolUse" in b:
            t = b["toolUse"]
            r["tools"].append({"id": t["toolUseId"], "name": t["name"], "arguments": json.dumps(t["input"])})
    r["usage"] = bedrock_usage(d.get("usage"))
    return bedrock_close(r, d["stopReason"])


def messages(body):
    """(headers, payload) of each whole message of an AWS event stream, WIRE.md 3."""
    while len(body) >= 12:
        total, n, crc = struct.unpack(">III", body[:12])
        if zlib.crc32(body[:8]) != crc or total < 16 + n:
            raise Wrong("E_PROTOCOL", "prelude")
        if len(body) < total:
            break
        if zlib.crc32(body[:total - 4]) != struct.unpack(">I", body[total - 4:total])[0]:
            raise Wrong("E_PROTOCOL", "checksum")
        head, headers = body[12:12 + n], {}
        while head:
            k = head[0]
            name, kind = head[1:1 + k].decode(), head[1 + k]
            head = head[2 + k:]
            if kind in (6, 7):
                size = struct.unpack(">H", head[:2])[0]
                head = head[2:]
            else:
                size = (0, 0, 1, 2, 4, 8, 0, 0, 8, 16)[kind]
            headers[name] = head[:size].decode() if kind == 7 else head[:size]
            head = head[size:]
        yield headers, body[12 + n:total - 4]
        body = body[total:]


def bedrock_stream(body, headers):
    r, calls, stop = blank(), {}, None
    r["id"] = headers["x-amzn-RequestId"]
    for head, payload in messages(body):
        kind = head[":message-type"]
        if kind == "error":
            raise Wrong("E_PROVIDER", head[":error-message"], partial=r)
        d = parse(payload)
        if kind == "exception":
            raise Wrong(BEDROCK_ERROR[head[":exception-type"]], d.get("message", ""), partial=r)
        t = head[":event-type"]
        if t == "contentBlockStart" and "toolUse" in d["start"]:
            u = d["start"]["toolUse"]
            calls[d["contentBlockIndex"]] = {"id": u["toolUseId"], "name": u["name"], "arguments": ""}
            r["tools"].append(calls[d["contentBlockIndex"]])
        elif t == "contentBlockDelta":
            x = d["delta"]
            r["text"] += x.get("text") or ""
            r["reasoning"] += (x.get("reasoningContent") or {}).get("text") or ""
            if "toolUse" in x:
                calls[d["contentBlockIndex"]]["arguments"] += x["toolUse"]["input"]
        elif t == "messageStop":
            stop = d["stopReason"]
        elif t == "metadata":
            r["usage"] = bedrock_usage(d.get("usage"))
    if stop is None:
        raise Wrong("E_TRUNCATED", partial=r)
    return bedrock_close(r, stop)


# ---- ollama -----------------------------------------------------------------------------------

def ollama(objects):
    r, last = blank(), None
    for d in objects:
        if d.get("error"):
            w = error_of(0, d)
            w.partial = r
            raise w
        m = d.get("message") or {}
        r["model"] = r["model"] or d.get("model") or ""
        r["text"] += m.get("content") or ""
        r["reasoning"] += m.get("thinking") or ""
        for t in m.get("tool_calls") or []:
            r["tools"].append({"id": t.get("id") or "", "name": t["function"]["name"],
                               "arguments": json.dumps(t["function"].get("arguments") or {})})
        if d.get("done"):
            last = d
    if last is None:
        raise Wrong("E_TRUNCATED", partial=r)
    if "prompt_eval_count" in last or "eval_count" in last:
        r["usage"] = usage(last.get("prompt_eval_count"), last.get("eval_count"))
    r["finish"] = "length" if last.get("done_reason") == "length" else "tool" if r["tools"] else "stop"
    return r


# ---- cohere -----------------------------------------------------------------------------------

COHERE_FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool"}


def cohere_usage(u):
    """What is billed, where it is said."""
    u = (u or {}).get("billed_units") or (u or {}).get("tokens")
    return usage(int(u.get("input_tokens") or 0), int(u.get("output_tokens") or 0)) if u else None


def cohere_close(r, reason, text=""):
    if reason in ("ERROR", "ERROR_TOXIC", "TIMEOUT"):
        raise Wrong("E_PROVIDER", text, partial=r)
    r["finish"] = COHERE_FINISH.get(reason, "stop")
    for t in r["tools"]:
        t["arguments"] = t["arguments"] or "{}"
    return r


def cohere_json(d):
    r, m = blank(), d["message"]
    r["id"], r["usage"] = d["id"], cohere_usage(d.get("usage"))
    r["reasoning"] = m.get("tool_plan") or ""
    for c in m.get("content") or []:
        r["text"] += c.get("text") or ""
        r["reasoning"] += c.get("thinking") or ""
    for t in m.get("tool_calls") or []:
        r["tools"].append({"id": t["id"], "name": t["function"]["name"], "arguments": t["function"]["arguments"]})
    return cohere_close(r, d["finish_reason"])


def cohere_stream(body):
    r, calls, reason, text = blank(), {}, None, ""
    for _, data in sse(body):
        d = parse(data)
        x = d.get("delta") or {}
        m = x.get("message") or {}
        r["id"] = r["id"] or d.get("id") or ""
        if d["type"] in ("content-start", "content-delta"):
            r["text"] += m["content"].get("text") or ""
            r["reasoning"] += m["content"].get("thinking") or ""
        elif d["type"] == "tool-plan-delta":
            r["reasoning"] += m["tool_plan"]
        elif d["type"] == "tool-call-start":
            t = m["tool_calls"]
            calls[d["index"]] = {"id": t["id"], "name": t["function"]["name"], "arguments": t["function"]["arguments"]}
            r["tools"].append(calls[d["index"]])
        elif d["type"] == "tool-call-delta":
            calls[d["index"]]["arguments"] += m["tool_calls"]["function"]["arguments"]
        elif d["type"] == "message-end":
            reason, text, r["usage"] = x["finish_reason"], x.get("error") or "", cohere_usage(x.get("usage"))
    if reason is None:
        raise Wrong("E_TRUNCATED", partial=r)
    return cohere_close(r, reason, text)


# ---- one for all ------------------------------------------------------------------------------

def objects(f):
    """Each JSON value of a body by itself."""
    if not f.stream:
        return [parse(f.body)]
    if f.framing == "lines":
        return [parse(line) for line in f.body.decode("utf-8").split("\n") if line.strip()]
    return [parse(d) for _, d in sse(f.body)]


READ = {
    "openai": lambda f: openai_stream(f.body) if f.stream else openai_json(f.body),
    "anthropic": lambda f: anthropic_stream(f.body) if f.stream else anthropic_json(f.body),
    "gemini": lambda f: gemini(parse(f.body) if f.array else objects(f)),
    "responses": lambda f: responses_stream(f.body) if f.stream else responses(parse(f.body)),
    "bedrock": lambda f: bedrock_stream(f.body, f.headers) if f.stream else bedrock_json(parse(f.body), f.headers),
    "ollama": lambda f: ollama(objects(f)),
    "cohere": lambda f: cohere_stream(f.body) if f.stream else cohere_json(parse(f.body)),
}


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
        return READ[f.dialect](f)
    except Wrong as w:
        r = w.partial or blank()
        r["error"] = {"code": w.code, "text": w.text, "status": w.status or f.status,
                      "retry_after_ms": w.retry_after_ms}
        return r
