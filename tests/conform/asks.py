"""Requests of the dialects that came after ask.c: built by llmgw.h (decode.c with a configuration), captured by the
replay server, checked against the types that the vendors' SDKs give to them; those to Bedrock signed once more by
botocore, which must come to the same signature."""
import base64
import hashlib
import inspect
import json
import re
import subprocess
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
import botocore.validate
import cohere
import ollama
from openai.types.responses import response_create_params
from pydantic import TypeAdapter, ValidationError

import differences
import reqcheck

KEYS = {"access_key": "AKIDCONFORMCONFORM", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
SESSION = "IQoJb3JpZ2luX2VjEA//////////wEaCXVzLWVhc3QtMSJHMEUCIQD+/=="

# name -> the provider's row of a configuration, but for its url; base: what its url ends in; model.
TARGETS = {
    "responses": ({"dialect": "responses", "key": "sk-conform"}, "/v1", "gpt-4.1"),
    "azure": ({"key": "sk-conform"}, "", "my-deployment"),
    "azure-dated": ({"key": "sk-conform", "api_version": "2024-10-21"}, "", "my deployment/1"),
    "vertex": ({"key": "ya29.conform", "project": "my-project", "region": "europe-west4"}, "/v1", "gemini-2.5-flash"),
    "bedrock": (dict(KEYS, region="eu-central-1"), "", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "bedrock-session": (dict(KEYS, session_token=SESSION, region="us-gov-west-1"), "",
                        "arn:aws:bedrock:us-gov-west-1:123456789012:inference-profile/a.b~c d"),
    "bedrock-bearer": ({"key": "bearer-key", "region": "eu-central-1"}, "", "amazon.nova-micro-v1:0"),
    "ollama": ({"dialect": "ollama"}, "", "qwen3:8b"),
    "cohere": ({"key": "sk-conform"}, "/v2", "command-a-03-2025"),
}
PROVIDER = {"responses": "openai", "azure-dated": "azure", "bedrock-session": "bedrock", "bedrock-bearer": "bedrock"}

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
TOOLS = [{"name": "weather", "description": "The weather \"now\" in a city: \u00e9t\u00e9", "parameters": json.dumps(WEATHER)},
         {"name": "clock"}]
PNG = "not really a picture"
CASES = {
    "least": {"prompt": "line one\nline \"two\" \U0001F986"},
    "settings": {"prompt": "x", "system": "Be brief.", "temperature": 0.25, "top_p": 0.9, "max_tokens": 77, "stop": ["END", "\n\n"],
                 "stream": True},
    "tools-auto": {"prompt": "weather?", "tools": TOOLS, "tool_mode": "auto"},
    "tools-required": {"prompt": "weather?", "tools": TOOLS, "tool_mode": "required"},
    "tools-one": {"prompt": "weather?", "tools": TOOLS, "tool_mode": "one", "tool_name": "clock"},
    "tools-none": {"prompt": "weather?", "tools": TOOLS, "tool_mode": "none"},
    "schema": {"prompt": "who?", "schema": json.dumps(PERSON), "schema_name": "person"},
    "effort": {"prompt": "think", "effort": "high", "max_tokens": 9000},
    "image": {"messages": [{"role": "user", "text": "see", "parts": [{"kind": "image", "data": PNG, "mime": "image/png"}]}]},
    "file": {"messages": [{"role": "user", "text": "see", "parts": [
        {"kind": "file", "data": "%PDF-1.4", "mime": "application/pdf", "name": "a.pdf"}]}]},
    "history": {"prompt": "and then?", "tools": TOOLS, "messages": [
        {"role": "user", "text": "weather and time?"},
        {"role": "assistant", "parts": [{"kind": "text", "text": "I look."},
                                        {"kind": "call", "id": "call_a", "name": "weather", "arguments": "{\"city\":\"Paris\"}"},
                                        {"kind": "call", "id": "call_b", "name": "clock"}]},
        {"role": "tool", "parts": [{"kind": "result", "id": "call_a", "name": "weather", "text": "no such city", "is_error": True},
                                   {"kind": "result", "id": "call_b", "name": "clock", "text": "{\"time\":\"noon\"}"}]}]},
}
# What a dialect cannot say: llmgw.h must refuse it, and send nothing.
REFUSED = {("ollama", "tools-required"), ("ollama", "tools-one"), ("ollama", "file"), ("cohere", "file")}


def need(out, ok, what):
    if not ok:
        out.append(what)


# ---- the vendors' types ------------------------------------------------------------------------

RESPONSES = [TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming),
             TypeAdapter(response_create_params.ResponseCreateParamsStreaming)]


def check_responses(out, name, path, headers, body):
    changed = [i for i in body["input"] if i.get("role") == "assistant" and isinstance(i["content"], list)
               and not {"id", "status"} <= set(i)]
    need(out, bool(changed) == (name in differences.SAID_OTHERWISE), "differences.SAID_OTHERWISE has no such row, or needs none")
    for i in changed:
        i.update({"id": "msg_1", "status": "completed"})
    kept = reqcheck.plain(RESPONSES[1 if body.get("stream") else 0].validate_python(body))
    out += ["the SDK's type has no " + k for k in reqcheck.unknown(body, kept)]
    need(out, path.endswith("/v1/responses"), "path " + path)
    need(out, headers.get("authorization") == "Bearer sk-conform", "authorization")
    need(out, body.get("store") is False, "store: false")


def check_azure(out, name, path, headers, body):
    out += reqcheck.typed(reqcheck.OPENAI, dict({"model": "in the path"}, **body), name)
    need(out, headers.get("api-key") == "sk-conform" and "authorization" not in headers, "api-key")
    want = "/openai/v1/chat/completions" if name.startswith("azure-v1") else \
        "/openai/deployments/my%20deployment%2F1/chat/completions?api-version=2024-10-21"
    if "dated" not in name:
        want = "/openai/v1/chat/completions"
        need(out, body.get("model") == "my-deployment", "model")
    need(out, path.endswith(want), "path " + path)


def check_vertex(out, name, path, headers, body):
    want = "/v1/projects/my-project/locations/europe-west4/publishers/google/models/gemini-2.5-flash:"
    need(out, want in path, "path " + path)
    need(out, headers.get("authorization") == "Bearer ya29.conform" and "x-goog-api-key" not in headers, "authorization")
    out += [o for o in reqcheck.gemini(body, path) if not o.startswith("path ")]


def blobs(value, shape):
    """bytes where the model has a blob: JSON carries base64."""
    if shape.type_name == "structure" and isinstance(value, dict):
        if getattr(shape, "is_document_type", False):
            return value
        return {k: blobs(v, shape.members[k]) if k in shape.members else v for k, v in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [blobs(v, shape.member) for v in value]
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    return value


SERVICE = botocore.session.Session().get_service_model("bedrock-runtime")


def check_bedrock(out, name, path, headers, body):
    operation = "ConverseStream" if path.endswith("/converse-stream") else "Converse"
    shape = SERVICE.operation_model(operation).input_shape
    model = re.search(r"/model/([^/]+)/converse(-stream)?$", path)
    if not model:
        out.append("path " + path)
        return
    target = re.sub(r"-(%s)$" % "|".join(CASES), "", name)
    need(out, urllib.parse.unquote(model.group(1)) == TARGETS[target][2], "model " + model.group(1))
    need(out, re.fullmatch(r"[A-Za-z0-9._~%-]*", model.group(1)) is not None, "encoding of " + model.group(1))
    params = dict(blobs(body, shape), modelId=TARGETS[target][2])
    report = botocore.validate.ParamValidator().validate(params, shape)
    if report.has_errors():
        out.append(report.generate_report())
    if target == "bedrock-bearer":
        need(out, headers.get("authorization") == "Bearer bearer-key", "authorization")
        need(out, not any(h.startswith("x-amz-date") for h in headers), "a signature beside the bearer key")
    else:
        signed(out, target, path, headers, json.dumps(body))


def signed(out, target, path, headers, _):
    """Nothing here: see sign_again, which has the bytes of the body."""
    need(out, headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "), "authorization")
    if target == "bedrock-session":
        need(out, headers.get("x-amz-security-token") == SESSION, "x-amz-security-token")


def sign_again(target, path, headers, raw):
    """The signature as botocore computes it over the same request; the reasons why it is not the same."""
    sent = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/bedrock/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?"
                        r"Signature=([0-9a-f]{64})", headers.get("authorization", ""))
    if not sent:
        return ["authorization: " + headers.get("authorization", "none")]
    key, day, region, names, signature = sent.groups()
    names = names.split(";")
    row = TARGETS[target][0]
    out = []
    need(out, key == row["access_key"] and region == row["region"], "credential %s %s" % (key, region))
    need(out, headers.get("x-amz-date", "")[:8] == day, "x-amz-date")
    need(out, {"host", "x-amz-date"} <= set(names), "signed headers " + ";".join(names))
    need(out, "x-amz-security-token" not in headers or "x-amz-security-token" in names, "the token is not signed")
    digest = headers.get("x-amz-content-sha256")
    need(out, digest in (None, hashlib.sha256(raw).hexdigest()), "x-amz-content-sha256")
    request = botocore.awsrequest.AWSRequest(method="POST", url="http://%s%s" % (headers["host"], path), data=raw,
                                             headers={n: headers[n] for n in names if n != "host"})
    request.context["timestamp"] = headers["x-amz-date"]
    auth = botocore.auth.SigV4Auth(botocore.credentials.Credentials(row["access_key"], row["secret_key"]), "bedrock", region)
    canonical = auth.canonical_request(request)
    need(out, auth.signed_headers(auth.headers_to_sign(request)) == ";".join(names), "order of the signed headers")
    if auth.signature(auth.string_to_sign(request, canonical), request) != signature:
        out.append("another signature; botocore's canonical request: %r" % canonical)
    return out


def check_ollama(out, name, path, headers, body):
    need(out, path.endswith("/api/chat"), "path " + path)
    kept = ollama._types.ChatRequest.model_validate(body)
    out += ["the SDK's type has no ." + k for k in set(body) - set(type(kept).model_fields)]
    options = set(body.get("options") or {}) - set(ollama.Options.model_fields)
    out += ["the SDK's type has no .options." + k for k in options]
    for m in body["messages"]:
        out += ["the SDK's type has no .messages." + k for k in set(m) - set(ollama.Message.model_fields)]
        for t in m.get("tool_calls") or []:
            need(out, isinstance(t["function"]["arguments"], dict), "arguments as an object")


COHERE_KEYS = set(inspect.signature(cohere.ClientV2.chat).parameters) | {"stream"}
COHERE_MESSAGES = {"user": cohere.UserChatMessageV2, "assistant": cohere.AssistantChatMessageV2,
                   "system": cohere.SystemChatMessageV2, "tool": cohere.ToolChatMessageV2}


def check_cohere(out, name, path, headers, body):
    need(out, path.endswith("/v2/chat"), "path " + path)
    need(out, headers.get("authorization") == "Bearer sk-conform", "authorization")
    out += ["the SDK has no ." + k for k in set(body) - COHERE_KEYS]
    for m in body["messages"]:
        t = COHERE_MESSAGES[m["role"]]
        out += ["the SDK's type has no .messages." + k for k in set(m) - set(t.model_fields)]
        TypeAdapter(t).validate_python(m)
    for t in body.get("tools") or []:
        TypeAdapter(cohere.ToolV2).validate_python(t)
    need(out, body.get("tool_choice", "NONE") in ("NONE", "REQUIRED"), "tool_choice")


CHECK = {"responses": check_responses, "azure": check_azure, "vertex": check_vertex, "bedrock": check_bedrock,
         "ollama": check_ollama, "cohere": check_cohere}


# ---- what the case asked for -----------------------------------------------------------------------

def meaning(out, target, case, body):
    text = json.dumps(body, ensure_ascii=False)
    png, pdf = (base64.b64encode(x.encode()).decode() for x in (PNG, "%PDF-1.4"))
    wanted = {"least": ["line one\\nline \\\"two\\\" \U0001F986"], "settings": ["77", "END", "Be brief.", "0.25"],
              "schema": ["age", "integer"], "image": [png, "see"], "file": [pdf, "see"],
              "history": ["no such city", "Paris", "noon", "I look.", "and then?"],
              "tools-auto": ["\u00e9t\u00e9", "clock"], "tools-one": ["clock"]}
    for w in wanted.get(case, []):
        if w == "END" and target == "responses":  # it knows no stop texts
            continue
        need(out, w in text, "without " + w)
    if case == "history":
        need(out, text.index("Paris") < text.index("no such city") < text.index("and then?"), "the order of turns")
        ids = re.findall(r"call_[ab]", text)
        need(out, target in ("ollama", "vertex") or ids == ["call_a", "call_b"] * 2, "ids %s" % ids)
    if case == "tools-none" and not target.startswith("bedrock"):
        need(out, "NONE" in text or '"none"' in text or "clock" not in text, "tools may not be called")


def one(name, target, case, captured):
    path, headers, raw = captured
    out = []
    try:
        body = json.loads(raw)
        CHECK[target.split("-")[0]](out, name, path, headers, body)
        if target in ("bedrock", "bedrock-session"):
            out += sign_again(target, path, headers, raw)
        need(out, headers.get("content-type", "").startswith("application/json"), "content-type")
        meaning(out, target, case, body)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, ValidationError) as e:
        out.append("%s: %s" % (type(e).__name__, str(e)[:600]))
    return out


def run(decode, server):
    """(passed, failures, targets that this header has not)"""
    jobs = []
    for target, (row, base, model) in TARGETS.items():
        provider = PROVIDER.get(target, target)
        for case, ask in CASES.items():
            name = "%s-%s" % (target, case)
            url = "http://127.0.0.1:%d/capture/%s%s" % (server.port, name, base)
            jobs.append({"id": name, "config": {"providers": {provider: dict(row, url=url)}},
                         "ask": dict(ask, model="%s/%s" % (provider, model), max_attempts=1, deadline_ms=20000)})
    p = subprocess.run([decode], input="".join(json.dumps(j) + "\n" for j in jobs), stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=120)
    said = {o["id"]: o for o in map(json.loads, p.stdout.splitlines())}
    captured = {name: (path, headers, body) for name, path, headers, body in server.captured}
    good, bad, missing = 0, [], {}
    if p.returncode:
        bad.append("decode ended with status %d: %s" % (p.returncode, p.stderr.strip()[-500:]))
    for target in TARGETS:
        for case in CASES:
            name = "%s-%s" % (target, case)
            o = said.get(name, {"refused": "no answer"})
            if "refused" in o:
                missing[target] = o["refused"]
                continue
            if (target.split("-")[0], case) in REFUSED:
                out = [] if name not in captured and o["error"]["code"] == "E_UNSUPPORTED" else \
                    ["not refused: %s %s" % (o["error"]["code"], o["error"]["text"])]
            elif name not in captured:
                out = ["not sent: %s %s" % (o["error"]["code"], o["error"]["text"])]
            else:
                out = one(name, target, case, captured[name])
            if out:
                bad.append("request %s: %s" % (name, "; ".join(out)))
            else:
                good += 1
    print("requests of the newer dialects checked against the SDKs' types, and Bedrock's signatures against botocore's: "
          "%d passed, %d failed" % (good, len(bad)))
    return good, bad, missing
