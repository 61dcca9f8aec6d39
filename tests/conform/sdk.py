"""The reading of the vendors' own Python SDKs, pointed at the same replay, put into common terms.
Only tables of WIRE.md section 2 are applied here; rules that go beyond a table (xAI's counting, "has calls
means tool") are left out on purpose, so that they show up as differences that must be explained."""
import json
import warnings

import anthropic
import boto3
import botocore.config
import botocore.exceptions
import cohere
import cohere.core
import ollama
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from openai.lib.streaming.chat import ChatCompletionStreamState

from plain import blank, usage

warnings.filterwarnings("ignore")

OPENAI_FINISH = {"stop": "stop", "length": "length", "model_length": "length", "tool_calls": "tool",
                 "function_call": "tool", "content_filter": "filter"}
ANTHROPIC_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length",
                    "model_context_window_exceeded": "length", "tool_use": "tool", "refusal": "filter",
                    "pause_turn": "pause"}


class Refuses(Exception):
    """The SDK cannot read this body: say why."""


def status_class(status):
    if status in (401, 403):
        return "E_AUTH"
    if status in (503, 529):
        return "E_OVERLOADED"
    if status >= 500:
        return "E_PROVIDER"
    return {404: "E_NOT_FOUND", 429: "E_RATE_LIMITED", 402: "E_QUOTA"}.get(status, "E_BAD_REQUEST")


def dig(o, *names):
    for n in names:
        o = getattr(o, n, None) if not isinstance(o, dict) else o.get(n)
        if o is None:
            return None
    return o


# ---- openai -----------------------------------------------------------------------------------

def openai_usage(u):
    if u is None:
        return None
    return usage(dig(u, "prompt_tokens"), dig(u, "completion_tokens"),
                 dig(u, "prompt_tokens_details", "cached_tokens"),
                 dig(u, "prompt_tokens_details", "cache_write_tokens"), 0,
                 dig(u, "completion_tokens_details", "reasoning_tokens"))


def openai_content(r, content):
    if isinstance(content, str):
        r["text"] += content
    for p in content if isinstance(content, list) else []:  # the SDK hands a list on unread
        if dig(p, "type") == "text":
            r["text"] += dig(p, "text")
        elif dig(p, "type") == "thinking":
            r["reasoning"] += "".join(dig(t, "text") for t in dig(p, "thinking"))


def openai_message(r, m):
    openai_content(r, dig(m, "content"))
    r["reasoning"] += dig(m, "reasoning_content") or dig(m, "reasoning") or ""
    if dig(m, "refusal"):
        r["refusal"] = (r["refusal"] or "") + m.refusal


def openai_call(f, base):
    c = client_of(f, base)
    r, how = blank(), "openai azure" if f.provider == "azure" else "openai"
    ask = dict(model="replay", messages=[{"role": "user", "content": "replay"}])
    try:
        if not f.stream:
            d = c.chat.completions.create(**ask)
            if not isinstance(d, openai.types.chat.ChatCompletion) or not d.choices:
                r["error"] = {"code": "E_PROTOCOL", "text": "", "status": 200}
                return r, "openai (it returns an object without choices)"
            m, u, raw = d.choices[0].message, d.usage, d.choices[0].finish_reason
            r["id"], r["model"] = dig(d, "id") or "", dig(d, "model") or ""
            openai_message(r, m)
            for t in m.tool_calls or []:
                r["tools"].append({"id": t.id or "", "name": t.function.name, "arguments": t.function.arguments})
        else:
            chunks, state, d = [], ChatCompletionStreamState(), None
            r["error"] = None
            for chunk in c.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask):
                chunks.append(chunk)
            if not chunks or all(getattr(x, "choices", None) is None for x in chunks):
                r["error"] = {"code": "E_PROTOCOL", "text": "", "status": 200}
                return r, "openai (its chunks have no choices)"
            try:
                if any(isinstance(ch.delta.content, list) for x in chunks for ch in x.choices or []):
                    raise TypeError("content is a list")  # its accumulator drops such parts silently
                for chunk in chunks:
                    state.handle_chunk(chunk)
                d = state.current_completion_snapshot
                how = "openai (accumulated by its stream state)"
            except Exception as e:  # its helper refuses what its decoder accepted
                how = "openai (its typed chunks; its accumulator refuses: %s)" % type(e).__name__
            if d is not None and not isinstance(d.choices[0].message.content, list):
                m, u, raw = d.choices[0].message, d.usage, d.choices[0].finish_reason
                r["id"], r["model"] = d.id or "", d.model or ""
                openai_message(r, m)
                for t in m.tool_calls or []:
                    r["tools"].append({"id": t.id or "", "name": t.function.name,
                                       "arguments": t.function.arguments})
            else:
                u, raw, calls = None, None, {}
                for chunk in chunks:
                    r["id"], r["model"] = r["id"] or chunk.id or "", r["model"] or chunk.model or ""
                    u = chunk.usage or u
                    for ch in chunk.choices or []:
                        raw = ch.finish_reason or raw
                        openai_message(r, ch.delta)
                        for n, t in enumerate(ch.delta.tool_calls or []):
                            i = n if t.index is None else t.index
                            if i not in calls:
                                calls[i] = {"id": "", "name": "", "arguments": ""}
                                r["tools"].append(calls[i])
                            calls[i]["id"] = calls[i]["id"] or t.id or ""
                            calls[i]["name"] = calls[i]["name"] or dig(t, "function", "name") or ""
                            calls[i]["arguments"] += dig(t, "function", "arguments") or ""
        r["finish"] = OPENAI_FINISH.get(raw, "none" if raw is None else raw)
        r["usage"] = openai_usage(u)
    except openai.APIStatusError as e:
        r["error"] = {"code": status_class(e.status_code), "text": (e.body or {}).get("message", e.message)
                      if isinstance(e.body, dict) else e.message, "status": e.status_code}
    except openai.APIError as e:
        b = e.body if isinstance(e.body, dict) else {}
        s = b.get("status_code") or (b["code"] if isinstance(b.get("code"), int) else 0)
        r["error"] = {"code": status_class(s) if s else "E_PROVIDER", "text": b.get("message", e.message),
                      "status": 200}
        how = "openai (raised while streaming)"
    except (ValueError, UnicodeDecodeError) as e:
        r["error"] = {"code": "E_PROTOCOL", "text": "", "status": 200}
        how = "openai (%s)" % type(e).__name__
    return r, how


# ---- anthropic --------------------------------------------------------------------------------

ANTHROPIC_ERROR = {"overloaded_error": "E_OVERLOADED", "rate_limit_error": "E_RATE_LIMITED",
                   "authentication_error": "E_AUTH", "permission_error": "E_AUTH",
                   "not_found_error": "E_NOT_FOUND", "invalid_request_error": "E_BAD_REQUEST"}


def anthropic_call(f, base):
    c = anthropic.Anthropic(api_key="sk-conform", base_url=base, max_retries=0, timeout=30)
    r, how = blank(), "anthropic"
    ask = dict(model="replay", max_tokens=1024, messages=[{"role": "user", "content": "replay"}])
    try:
        if f.stream:
            how = "anthropic (accumulated by its stream helper)"
            with c.messages.stream(**ask) as s:
                m = s.get_final_message()
        else:
            m = c.messages.create(**ask)
        for b in m.content:
            if b.type == "text":
                r["text"] += b.text
            elif b.type == "thinking":
                r["reasoning"] += b.thinking
            elif b.type == "tool_use":
                r["tools"].append({"id": b.id, "name": b.name, "arguments": json.dumps(b.input)})
        u = m.usage
        read, write = u.cache_read_input_tokens or 0, u.cache_creation_input_tokens or 0
        r["usage"] = usage(u.input_tokens + read + write, u.output_tokens, read, write,
                           dig(u, "cache_creation", "ephemeral_1h_input_tokens"),
                           dig(u, "output_tokens_details", "thinking_tokens"))
        r["id"], r["model"] = m.id, m.model
        r["finish"] = ANTHROPIC_FINISH.get(m.stop_reason, m.stop_reason or "none")
        if m.stop_reason == "refusal":
            r["refusal"] = dig(m, "stop_details", "explanation")
    except anthropic.APIStatusError as e:
        d = e.body if isinstance(e.body, dict) else {}
        inner = d.get("error") or {}
        code = ANTHROPIC_ERROR.get(inner.get("type")) or status_class(e.status_code)
        r["error"] = {"code": code, "text": inner.get("message", e.message), "status": e.status_code}
    return r, how


# ---- gemini -----------------------------------------------------------------------------------

def gemini_call(f, base):
    c = genai.Client(api_key="sk-conform", http_options=genai_types.HttpOptions(
        base_url=base, api_version="v1beta", timeout=30000,
        retry_options=genai_types.HttpRetryOptions(attempts=1)))
    r, how = blank(), "google-genai"
    raw, blocked, u = None, None, None
    try:
        if f.stream:
            how = "google-genai (stream)"
            replies = c.models.generate_content_stream(model="replay", contents="replay")
        else:
            replies = [c.models.generate_content(model="replay", contents="replay")]
        for d in replies:
            u = d.usage_metadata or u
            r["id"], r["model"] = r["id"] or d.response_id or "", r["model"] or d.model_version or ""
            if d.prompt_feedback and d.prompt_feedback.block_reason:
                blocked = d.prompt_feedback
            for cand in (d.candidates or [])[:1]:
                raw = cand.finish_reason or raw
                for p in (cand.content.parts if cand.content else None) or []:
                    if p.function_call is not None:
                        if p.function_call.name:
                            r["tools"].append({"id": p.function_call.id or "", "name": p.function_call.name,
                                               "arguments": json.dumps(p.function_call.args or {})})
                    elif p.text:
                        r["reasoning" if p.thought else "text"] += p.text
    except genai_errors.UnknownApiResponseError as e:
        if f.array:  # what comes without alt=sse, which the SDK always asks for
            raise Refuses("google-genai reads no array") from e
        r["error"] = {"code": "E_PROTOCOL", "text": "", "status": 200}
        return r, how
    except genai_errors.APIError as e:
        r["error"] = {"code": status_class(e.code), "text": e.message, "status": e.code}
        return r, how
    if u and any(getattr(u, k, None) is not None for k in
                 ("prompt_token_count", "candidates_token_count", "total_token_count")):
        r["usage"] = usage((u.prompt_token_count or 0) + (u.tool_use_prompt_token_count or 0),
                           (u.candidates_token_count or 0) + (u.thoughts_token_count or 0),
                           u.cached_content_token_count, 0, 0, u.thoughts_token_count)
    name = getattr(raw, "name", raw)
    if blocked:
        r["finish"] = "filter"
        r["refusal"] = blocked.block_reason_message or blocked.block_reason.name
    elif name in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"):
        r["finish"] = "filter"
    elif name == "STOP":
        r["finish"] = "tool" if r["tools"] else "stop"
    else:
        r["finish"] = {"MAX_TOKENS": "length", None: "none"}.get(name, name)
    return r, how


# ---- openai: responses -------------------------------------------------------------------------

def client_of(f, base):
    """Azure's is the same SDK's; its base is the deployment's."""
    more = dict(max_retries=0, timeout=30)
    if f.provider == "azure":
        return openai.AzureOpenAI(api_key="sk-conform", api_version="2024-10-21", azure_endpoint=base, **more)
    return openai.OpenAI(api_key="sk-conform", base_url=base + "/v1", **more)


def response_facts(r, d):
    r["id"], r["model"], u = d.id or "", d.model or "", d.usage
    thoughts = []
    r["text"] = d.output_text
    for item in d.output:
        if item.type == "function_call":
            r["tools"].append({"id": item.call_id, "name": item.name, "arguments": item.arguments})
        elif item.type == "reasoning":
            thoughts += [s.text for s in item.summary or []]
        elif item.type == "message":
            for c in item.content:
                if c.type == "refusal":
                    r["refusal"] = (r["refusal"] or "") + c.refusal
    r["reasoning"] = "\n\n".join(thoughts)
    if u:
        r["usage"] = usage(u.input_tokens, u.output_tokens, dig(u, "input_tokens_details", "cached_tokens"),
                           dig(u, "input_tokens_details", "cache_write_tokens"), 0,
                           dig(u, "output_tokens_details", "reasoning_tokens"))
    if d.status == "incomplete":
        r["finish"] = {"max_output_tokens": "length", "content_filter": "filter"}.get(dig(d, "incomplete_details", "reason"))
    else:
        r["finish"] = "tool" if r["tools"] else "stop"
    if d.error:
        r["error"] = {"code": OPENAI_ERROR.get(d.error.code, "E_PROVIDER"), "text": d.error.message, "status": 200}


OPENAI_ERROR = {"insufficient_quota": "E_QUOTA", "rate_limit_exceeded": "E_RATE_LIMITED", "server_error": "E_PROVIDER"}


def responses_call(f, base):
    r, how = blank(), "openai responses"
    c = client_of(f, base)
    ask = dict(model="replay", input="replay", store=False)
    try:
        if not f.stream:
            response_facts(r, c.responses.create(**ask))
            return r, how
        try:
            with c.responses.stream(**ask) as s:
                d = s.get_final_response()
            how += " (accumulated by its stream helper)"
        except (RuntimeError, KeyError, IndexError, AttributeError, AssertionError) as e:
            d, how = None, how + " (its typed events; its accumulator refuses: %s)" % type(e).__name__
            for event in c.responses.create(stream=True, **ask):
                if event.type in ("response.completed", "response.incomplete", "response.failed"):
                    d = event.response
                elif event.type == "error" and not r["error"]:
                    e = dig(event, "error") or event
                    r["error"] = {"code": OPENAI_ERROR.get(dig(e, "code"), "E_PROVIDER"), "text": dig(e, "message"),
                                  "status": 200}
        if d is None or r["error"]:
            return r, how
        response_facts(r, d)
    except openai.APIStatusError as e:
        code = (e.body or {}).get("code")
        r["error"] = {"code": OPENAI_ERROR.get(code) or status_class(e.status_code),
                      "text": (e.body or {}).get("message", e.message), "status": e.status_code}
    except openai.APIError as e:
        b = e.body if isinstance(e.body, dict) else {}
        r["error"] = {"code": OPENAI_ERROR.get(b.get("code"), "E_PROVIDER"), "text": b.get("message", e.message), "status": 200}
    except (ValueError, UnicodeDecodeError) as e:
        r["error"] = {"code": "E_PROTOCOL", "text": "", "status": 200}
        how = "openai responses (%s)" % type(e).__name__
    return r, how


# ---- bedrock ----------------------------------------------------------------------------------

BEDROCK_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool",
                  "model_context_window_exceeded": "length", "guardrail_intervened": "filter", "content_filtered": "filter"}
BEDROCK_ERROR = {"internalServerException": "E_PROVIDER", "modelStreamErrorException": "E_PROVIDER",
                 "validationException": "E_BAD_REQUEST", "throttlingException": "E_RATE_LIMITED",
                 "serviceUnavailableException": "E_OVERLOADED"}


def bedrock_client(base):
    return boto3.client("bedrock-runtime", endpoint_url=base, region_name="us-east-1", aws_access_key_id="AKIDCONFORM",
                        aws_secret_access_key="secret", config=botocore.config.Config(
                            retries={"total_max_attempts": 1}, read_timeout=30, proxies={}))


def bedrock_usage(r, u):
    if u:
        read, write = u.get("cacheReadInputTokens") or 0, u.get("cacheWriteInputTokens") or 0
        hour = sum(c["inputTokens"] for c in u.get("cacheDetails") or [] if c["ttl"] == "1h")
        r["usage"] = usage(u["inputTokens"] + read + write, u["outputTokens"], read, write, hour)


def bedrock_blocks(r, blocks):
    for b in blocks:
        r["text"] += b.get("text", "")
        for c in b.get("citationsContent", {}).get("content", []):
            r["text"] += c.get("text", "")
        r["reasoning"] += b.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        if "toolUse" in b:
            r["tools"].append({"id": b["toolUse"]["toolUseId"], "name": b["toolUse"]["name"],
                               "arguments": json.dumps(b["toolUse"]["input"])})


def bedrock_events(r, stream):
    calls, stop = {}, None
    for e in stream:
        if "contentBlockStart" in e and "toolUse" in e["contentBlockStart"]["start"]:
            u = e["contentBlockStart"]["start"]["toolUse"]
            calls[e["contentBlockStart"]["contentBlockIndex"]] = {"id": u["toolUseId"], "name": u["name"], "arguments": ""}
            r["tools"].append(calls[e["contentBlockStart"]["contentBlockIndex"]])
        elif "contentBlockDelta" in e:
            x = e["contentBlockDelta"]["delta"]
            r["text"] += x.get("text", "")
            r["reasoning"] += x.get("reasoningContent", {}).get("text", "")
            if "toolUse" in x:
                calls[e["contentBlockDelta"]["contentBlockIndex"]]["arguments"] += x["toolUse"]["input"]
        elif "messageStop" in e:
            stop = e["messageStop"]["stopReason"]
        elif "metadata" in e:
            bedrock_usage(r, e["metadata"].get("usage"))
    for t in r["tools"]:
        t["arguments"] = t["arguments"] or "{}"
    return stop


def bedrock_call(f, base):
    r, how = blank(), "boto3"
    c = bedrock_client(base)
    ask = dict(modelId="us.replay-v1:0", messages=[{"role": "user", "content": [{"text": "replay"}]}])
    try:
        if f.stream:
            how = "boto3 (event stream)"
            d = c.converse_stream(**ask)
            stop = bedrock_events(r, d["stream"])
        else:
            d = c.converse(**ask)
            bedrock_blocks(r, d["output"]["message"]["content"])
            bedrock_usage(r, d.get("usage"))
            stop = d["stopReason"]
        r["id"] = d["ResponseMetadata"].get("RequestId") or ""
        r["finish"] = BEDROCK_FINISH.get(stop, stop)
        if r["finish"] == "filter":
            r["refusal"] = stop
        if stop and stop.startswith("malformed"):
            r["error"] = {"code": "E_PROVIDER", "text": "", "status": 200}
    except botocore.exceptions.EventStreamError as e:
        e = e.response["Error"]
        r["error"] = {"code": BEDROCK_ERROR.get(e["Code"], "E_PROVIDER"), "text": e.get("Message", ""), "status": 200}
    except botocore.exceptions.ClientError as e:
        s = e.response["ResponseMetadata"]["HTTPStatusCode"]
        r["error"] = {"code": status_class(s), "text": e.response["Error"]["Message"], "status": s}
    return r, how


# ---- ollama -----------------------------------------------------------------------------------

def ollama_call(f, base):
    r, how, last = blank(), "ollama", None
    c = ollama.Client(host=base, timeout=30, trust_env=False)
    try:
        parts = c.chat(model="replay", messages=[{"role": "user", "content": "replay"}], stream=f.stream)
        for d in parts if f.stream else [parts]:
            r["model"] = r["model"] or d.model or ""
            r["text"] += d.message.content or ""
            r["reasoning"] += d.message.thinking or ""
            for t in d.message.tool_calls or []:
                r["tools"].append({"id": "", "name": t.function.name, "arguments": json.dumps(t.function.arguments)})
            last = d if d.done else last
        if last.prompt_eval_count is not None or last.eval_count is not None:
            r["usage"] = usage(last.prompt_eval_count, last.eval_count)
        r["finish"] = "tool" if r["tools"] and last.done_reason == "stop" else last.done_reason
    except ollama.ResponseError as e:
        sent = e.status_code if e.status_code and e.status_code > 0 else 200
        r["error"] = {"code": status_class(sent) if sent >= 400 else "E_PROVIDER", "text": e.error, "status": sent}
    return r, how


# ---- cohere -----------------------------------------------------------------------------------

COHERE_FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool"}


def cohere_usage(r, u):
    b = dig(u, "billed_units")
    if b:
        r["usage"] = usage(int(b.input_tokens), int(b.output_tokens))


def cohere_content(r, c):
    r["text"] += dig(c, "text") or ""
    r["reasoning"] += dig(c, "thinking") or ""


def cohere_events(r, events):
    reason, calls = None, {}
    for e in events:
        m = dig(e, "delta", "message")
        if e.type == "message-start":
            r["id"] = e.id
        elif e.type in ("content-start", "content-delta"):
            cohere_content(r, m.content)
        elif e.type == "tool-plan-delta":
            r["reasoning"] += m.tool_plan
        elif e.type == "tool-call-start":
            t = m.tool_calls
            calls[e.index] = {"id": t.id, "name": t.function.name, "arguments": t.function.arguments or ""}
            r["tools"].append(calls[e.index])
        elif e.type == "tool-call-delta":
            calls[e.index]["arguments"] += m.tool_calls.function.arguments
        elif e.type == "message-end":
            reason = e.delta.finish_reason
            cohere_usage(r, e.delta.usage)
            if e.delta.error:
                r["error"] = {"code": "E_PROVIDER", "text": e.delta.error, "status": 200}
    return reason


def cohere_call(f, base):
    r, how = blank(), "cohere"
    c = cohere.ClientV2(api_key="sk-conform", base_url=base, timeout=30)
    ask = dict(model="replay", messages=[{"role": "user", "content": "replay"}],
               request_options={"max_retries": 0})
    try:
        if f.stream:
            how = "cohere (stream)"
            reason = cohere_events(r, c.chat_stream(**ask))
        else:
            d = c.chat(**ask)
            r["id"], reason = d.id, d.finish_reason
            r["reasoning"] = d.message.tool_plan or ""
            for p in d.message.content or []:
                cohere_content(r, p)
            for t in d.message.tool_calls or []:
                r["tools"].append({"id": t.id, "name": t.function.name, "arguments": t.function.arguments})
            cohere_usage(r, d.usage)
        r["finish"] = COHERE_FINISH.get(reason, reason)
    except cohere.core.ApiError as e:
        text = e.body.get("message", "") if isinstance(e.body, dict) else dig(e.body, "message") or str(e.body)
        r["error"] = {"code": status_class(e.status_code), "text": text, "status": e.status_code}
    return r, how


CALL = {"openai": openai_call, "anthropic": anthropic_call, "gemini": gemini_call, "responses": responses_call,
        "bedrock": bedrock_call, "ollama": ollama_call, "cohere": cohere_call}


def read(f, base):
    """(facts, which reading) or (None, why the SDK gives nothing)."""
    try:
        return CALL[f.dialect](f, base)
    except Exception as e:
        return None, "%s: %s" % (type(e).__name__, str(e).split("\n")[0][:140])
