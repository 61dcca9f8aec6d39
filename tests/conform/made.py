"""Bodies made by us where no recording is public: Ollama's own API and Cohere's streams have none, Bedrock's few do
not show guardrails, citations or a redacted thought. Written from the vendors' documentation and the types of
their SDKs; the SDKs read them as they read the recordings."""
import base64
import json

import frames

TEXT = "D\u00e9j\u00e0 vu \u2014 \U0001F986 says \"quack\\quack\".\n\nEnd."


def lines(*objects):
    return "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects).encode()


def whole(o):
    return json.dumps(o, ensure_ascii=False).encode()


# ---- ollama: /api/chat ---------------------------------------------------------------------------

def ollama(message=None, done=None, **more):
    o = {"model": "qwen3:8b", "created_at": "2026-08-21T10:00:00.123456789Z"}
    if message is not None:
        o["message"] = dict({"role": "assistant", "content": ""}, **message)
    o["done"] = done is not None
    if done:
        o.update({"done_reason": done, "total_duration": 5191566416, "load_duration": 2154458, "prompt_eval_count": 26,
                  "prompt_eval_duration": 383809000, "eval_count": 298, "eval_duration": 4799921000})
    o.update(more)
    return o


def pieces(text, n):
    return [text[i:i + n] for i in range(0, len(text), n)]


CALLS = [{"function": {"name": "weather", "arguments": {"city": "Reykjav\u00edk", "days": [1, 2.5], "deep": {"x": None}}}},
         {"function": {"name": "clock", "arguments": {}}}]
OLLAMA = [
    ("ollama-text", None, 200, whole(ollama({"content": TEXT}, "stop"))),
    ("ollama-text-stream", "lines", 200, lines(*[ollama({"content": p}) for p in pieces(TEXT, 3)], ollama({}, "stop"))),
    ("ollama-thinking", None, 200, whole(ollama({"content": "42", "thinking": "Six times seven."}, "stop"))),
    ("ollama-thinking-stream", "lines", 200,
     lines(*[ollama({"thinking": p}) for p in pieces("Six times seven.", 4)], ollama({"content": "42"}), ollama({}, "stop"))),
    ("ollama-tools", None, 200, whole(ollama({"tool_calls": CALLS}, "stop"))),
    ("ollama-tools-stream", "lines", 200,
     lines(ollama({"content": "I look. "}), ollama({"tool_calls": CALLS[:1]}), ollama({"tool_calls": CALLS[1:]}),
           ollama({}, "stop"))),
    ("ollama-length-stream", "lines", 200, lines(ollama({"content": "Once"}), ollama({}, "length"))),
    # A prompt that is wholly in its cache is not counted; the last line may have no message.
    ("ollama-cached", None, 200, whole({k: v for k, v in ollama({"content": "hi"}, "stop").items()
                                        if k != "prompt_eval_count"})),
    ("ollama-bare-end-stream", "lines", 200, lines(ollama({"content": "hi"}), ollama(None, "stop"))),
    ("ollama-error-stream", "lines", 200,
     lines(ollama({"content": "Once upon"}), {"error": "an error was encountered while running the model: CUDA"})),
    ("ollama-not-found", None, 404, whole({"error": "model 'nope' not found"})),
    ("ollama-bad", None, 400, whole({"error": "registry.ollama.ai/library/gemma:latest does not support tools"})),
]


# ---- cohere: v2/chat -----------------------------------------------------------------------------

def sse(*events):
    return "".join("event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e, ensure_ascii=False)) for e in events).encode()


USAGE = {"billed_units": {"input_tokens": 12, "output_tokens": 7}, "tokens": {"input_tokens": 507, "output_tokens": 10}}
START = {"type": "message-start", "id": "29f14a5a-11de-4cae-9800-25e4747408ea",
         "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}


def end(reason, **more):
    return {"type": "message-end", "delta": dict({"finish_reason": reason, "usage": USAGE}, **more)}


def content(i, kind, texts):
    out = [{"type": "content-start", "index": i, "delta": {"message": {"content": {"type": kind, kind: ""}}}}]
    out += [{"type": "content-delta", "index": i, "delta": {"message": {"content": {kind: t}}}} for t in texts]
    return out + [{"type": "content-end", "index": i}]


def call(i, ident, name, arguments):
    out = [{"type": "tool-call-start", "index": i, "delta": {"message": {"tool_calls": {
        "id": ident, "type": "function", "function": {"name": name, "arguments": ""}}}}}]
    out += [{"type": "tool-call-delta", "index": i, "delta": {"message": {"tool_calls": {"function": {"arguments": a}}}}}
            for a in arguments]
    return out + [{"type": "tool-call-end", "index": i}]


def cohere(message, reason, **more):
    return whole(dict({"id": "c14c80c3-18eb-4519-9460-6c92edd8cfb4", "finish_reason": reason, "usage": USAGE,
                       "message": dict({"role": "assistant"}, **message)}, **more))


COHERE = [
    ("cohere-text-stream", "sse", 200, sse(START, *content(0, "text", pieces(TEXT, 4)), end("COMPLETE"))),
    ("cohere-thinking-stream", "sse", 200,
     sse(START, *content(0, "thinking", ["Six ", "times seven."]), *content(1, "text", ["42"]), end("COMPLETE"))),
    ("cohere-tools-stream", "sse", 200,
     sse(START, *[{"type": "tool-plan-delta", "delta": {"message": {"tool_plan": p}}} for p in ("I will", " look.")],
         *call(0, "weather_abc", "weather", ["{\n    \"", "city", "\": \"Paris\"\n}"]), *call(1, "clock_def", "clock", ["{}"]),
         end("TOOL_CALL"))),
    ("cohere-citations-stream", "sse", 200,
     sse(START, *content(0, "text", ["Sunny."]),
         {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0, "end": 5, "text": "Sunny",
                                                                                   "sources": [], "type": "TEXT_CONTENT"}}}},
         {"type": "citation-end", "index": 0}, end("STOP_SEQUENCE"))),
    ("cohere-length-stream", "sse", 200, sse(START, *content(0, "text", ["Once"]), end("MAX_TOKENS"))),
    ("cohere-error-stream", "sse", 200, sse(START, *content(0, "text", ["Once"]), end("ERROR", error="the model broke"))),
    ("cohere-tools", None, 200,
     cohere({"tool_plan": "I will look.", "tool_calls": [
         {"id": "weather_abc", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}}]},
            "TOOL_CALL")),
    ("cohere-thinking", None, 200,
     cohere({"content": [{"type": "thinking", "thinking": "Six times seven."}, {"type": "text", "text": "42"}]}, "COMPLETE")),
    ("cohere-length", None, 200, cohere({"content": [{"type": "text", "text": "Once"}]}, "MAX_TOKENS")),
    ("cohere-bad-key", None, 401, whole({"message": "invalid api token", "id": "8b5d8d0c"})),
    ("cohere-bad", None, 400, whole({"message": "invalid request: temperature must be between 0 and 1"})),
    ("cohere-too-fast", None, 429, whole({"message": "You are past the per minute request limit, please wait and try again."})),
]


# ---- bedrock: converse ---------------------------------------------------------------------------

def converse(content, reason, usage=None, **more):
    return whole(dict({"metrics": {"latencyMs": 12}, "output": {"message": {"role": "assistant", "content": content}},
                       "stopReason": reason, "usage": usage or {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}}, **more))


def converse_stream(*events):
    return b"".join(frames.event(*e) for e in events)


def delta(i, d):
    return "contentBlockDelta", {"contentBlockIndex": i, "delta": d}


def stopped(i):
    return "contentBlockStop", {"contentBlockIndex": i}


BEGUN = ("messageStart", {"role": "assistant"})
METADATA = ("metadata", {"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}, "metrics": {"latencyMs": 12}})
REDACTED = base64.b64encode(b"not for your eyes").decode()
BEDROCK = [
    ("bedrock-guardrail", None, 200, converse([{"text": "Sorry, I cannot."}], "guardrail_intervened")),
    ("bedrock-filtered", None, 200, converse([{"text": ""}], "content_filtered")),
    ("bedrock-redacted", None, 200,
     converse([{"reasoningContent": {"redactedContent": REDACTED}}, {"text": TEXT}], "end_turn",
              {"inputTokens": 5, "outputTokens": 6, "totalTokens": 140, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 29,
               "cacheDetails": [{"ttl": "1h", "inputTokens": 9}, {"ttl": "5m", "inputTokens": 20}]})),
    ("bedrock-redacted-stream", "eventstream", 200, converse_stream(
        BEGUN, delta(0, {"reasoningContent": {"redactedContent": REDACTED}}), stopped(0),
        delta(1, {"reasoningContent": {"text": "Six times seven."}}), delta(1, {"reasoningContent": {"signature": "c2ln"}}),
        stopped(1), *[delta(2, {"text": p}) for p in pieces(TEXT, 5)], stopped(2), ("messageStop", {"stopReason": "end_turn"}),
        METADATA)),
    ("bedrock-guardrail-stream", "eventstream", 200, converse_stream(
        BEGUN, delta(0, {"text": "Sorry, I cannot."}), stopped(0), ("messageStop", {"stopReason": "guardrail_intervened"}),
        METADATA)),
    # vercel/ai has a fixture in this order; the reason for the end must not be lost by it.
    ("bedrock-metadata-first-stream", "eventstream", 200, converse_stream(
        BEGUN, delta(0, {"text": "Once"}), stopped(0), METADATA, ("messageStop", {"stopReason": "max_tokens"}))),
    ("bedrock-error-stream", "eventstream", 200, converse_stream(BEGUN, delta(0, {"text": "Once"})) + frames.message(
        [(":message-type", 7, b"error"), (":error-code", 7, b"InternalError"), (":error-message", 7, b"An internal error")], b"")),
    ("bedrock-malformed-call", None, 200, converse([{"text": "I wanted to"}], "malformed_tool_use")),
    ("bedrock-citations", None, 200,
     converse([{"text": "It is "}, {"citationsContent": {"content": [{"text": "red."}], "citations": []}}], "stop_sequence")),
]

BODIES = [(n, "ollama", "ollama", framing, status, body) for n, framing, status, body in OLLAMA] + \
         [(n, "cohere", "cohere", framing, status, body) for n, framing, status, body in COHERE] + \
         [(n, "bedrock", "bedrock", framing, status, body) for n, framing, status, body in BEDROCK]
