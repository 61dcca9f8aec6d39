#!/usr/bin/env python3
"""Embeddings and batches of llmgw.h (vectors.c): recorded replies against the official SDKs' reading of them; aimock's
vectors as the SDKs get them, also with its chaos; a batch from its submission to its results at aimock.

    vectors.py VECTORS FIXTURES NODE_MODULES OUT      (in the SDKs' venv)"""
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import boto3  # noqa: E402
import botocore.config  # noqa: E402
import cohere  # noqa: E402
import ollama  # noqa: E402
import openai  # noqa: E402
from google import genai  # noqa: E402
from google.genai import types as genai_types  # noqa: E402

import aimock  # noqa: E402
import fixtures  # noqa: E402
import replay  # noqa: E402
import servers  # noqa: E402

SEEDS = 10
AWS = {"region": "us-east-1", "access_key": "AKIDCONFORM", "secret_key": "secret"}
TEXTS = ["A lighthouse by night", "Ein Leuchtturm bei Nacht \U0001F986", "42"]


def near(a, b):
    """The same numbers, as floats of 32 bits."""
    return len(a) == len(b) and all(len(x) == len(y) and all(abs(p - q) <= 1e-6 * max(1, abs(p)) for p, q in zip(x, y))
                                    for x, y in zip(a, b))


def run(program, jobs):
    text = "".join(json.dumps(j) + "\n" for j, _ in jobs)
    p = subprocess.run([program], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=150)
    came = {o["id"]: o for o in map(json.loads, p.stdout.splitlines())}
    return came, p.returncode, p.stderr.strip()


# ---- the SDKs -------------------------------------------------------------------------------------

STRICT_OFF = {"X-AIMock-Strict": "false"}  # then it makes vectors up from the text, always the same ones


def by_openai(base, model, texts, provider=None):
    more = dict(max_retries=0, timeout=30, default_headers=STRICT_OFF)
    c = openai.AzureOpenAI(api_key="sk-conform", api_version="2024-10-21", azure_endpoint=base, **more) if provider == "azure" \
        else openai.OpenAI(api_key="sk-conform", base_url=base + "/v1", **more)
    d = c.embeddings.create(model=model, input=texts)
    return [e.embedding for e in sorted(d.data, key=lambda e: e.index)], d.usage and d.usage.prompt_tokens


def by_ollama(base, model, texts):
    d = ollama.Client(host=base, timeout=30, headers=STRICT_OFF, trust_env=False).embed(model=model, input=texts)
    return [list(v) for v in d.embeddings], d.prompt_eval_count


def by_cohere(base, model, texts):
    c = cohere.ClientV2(api_key="sk-conform", base_url=base, timeout=30)
    d = c.embed(model=model, texts=texts, input_type="search_document", embedding_types=["float"],
                request_options={"max_retries": 0, "additional_headers": STRICT_OFF})
    units = d.meta and d.meta.billed_units
    return d.embeddings.float_, units and units.input_tokens and int(units.input_tokens)


def by_genai(base, model, texts):
    c = genai.Client(api_key="sk-conform", http_options=genai_types.HttpOptions(base_url=base, api_version="v1beta", timeout=30000))
    d = c.models.embed_content(model=model, contents=texts)
    return [e.values for e in d.embeddings], None


def by_boto3(base, model, texts):
    """boto3 knows no model's body: what is in it is WIRE.md 6."""
    c = boto3.client("bedrock-runtime", endpoint_url=base, region_name="us-east-1", aws_access_key_id="AKIDCONFORM",
                     aws_secret_access_key="secret", config=botocore.config.Config(retries={"total_max_attempts": 1}))
    d = c.invoke_model(modelId=model, body=json.dumps({"texts": texts}))
    body = json.loads(d["body"].read())
    count = d["ResponseMetadata"]["HTTPHeaders"].get("x-amzn-bedrock-input-token-count")
    if "inputTextTokenCount" in body:
        return [body["embedding"]], body["inputTextTokenCount"]
    vectors = body["embeddings"]
    vectors = vectors["float"] if isinstance(vectors, dict) else \
        [v["embedding"] if isinstance(v, dict) else v for v in vectors]
    return vectors, int(count) if count else None


# ---- recordings -----------------------------------------------------------------------------------

def made(name, dialect, body, headers=None):
    f = fixtures.Made(name, dialect, dialect, None, 200, json.dumps(body).encode())
    f.headers.update(headers or {})
    return f


# A provider, the model asked for, how many texts, the reply, and who reads it besides.
def replies(root):
    path = os.path.join(root, "embeddings")
    recorded = {}
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
        if name.endswith(".response.json"):
            recorded[name.split(".")[1]] = f = fixtures.Fixture(root, "embeddings", name)
            f.foreign = False
    if recorded:
        yield "openai", "text-embedding-3-small", 1, recorded["test_instrumentation"], by_openai
        yield "openai", "nonexistent", 1, recorded["test_embed_error"], by_openai
        yield "bedrock", "cohere.embed-v4:0", 1, recorded["test_cohere_v4_with_dimensions"], by_boto3
    yield "openai", "text-embedding-3-small", 2, fixtures.Fixture(root, "openai-chat", "vercel__openai-embedding.json"), by_openai
    three = [[0.5, -0.25, 0.125], [1e-7, 0, -1], [0.1, 0.2, 0.3]]
    yield "gemini", "gemini-embedding-001", 3, made("gemini-embeddings", "gemini", {"embeddings": [{"values": v} for v in three]}), \
        by_genai
    yield "ollama", "nomic-embed-text", 3, made("ollama-embeddings", "ollama", {
        "model": "nomic-embed-text", "embeddings": three, "total_duration": 1, "prompt_eval_count": 9}), by_ollama
    yield "cohere", "embed-v4.0", 3, made("cohere-embeddings", "cohere", {
        "id": "x", "embeddings": {"float": three}, "texts": TEXTS, "response_type": "embeddings_by_type",
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 9}}}), by_cohere
    yield "bedrock", "amazon.titan-embed-text-v2:0", 1, made("titan-embeddings", "bedrock", {
        "embedding": three[0], "inputTextTokenCount": 4}), by_boto3
    yield "bedrock", "cohere.embed-english-v3", 3, made("cohere-v3-embeddings", "bedrock", {
        "embeddings": three, "id": "x", "response_type": "embeddings_floats"}, {"x-amzn-bedrock-input-token-count": "9"}), by_boto3
    yield "bedrock", "amazon.nova-2-multimodal-embeddings-v1:0", 1, made("nova-embeddings", "bedrock", {
        "embeddings": [{"embeddingType": "TEXT", "embedding": three[0]}]}, {"x-amzn-bedrock-input-token-count": "4"}), by_boto3


BASE = {"openai": "/v1", "gemini": "/v1beta", "cohere": "/v2"}


def row_of(provider, url, headers=None):
    p = {"url": url + BASE.get(provider, "")}
    p.update(AWS if provider == "bedrock" else {"key": "sk-conform"})
    if provider == "ollama":
        p["dialect"] = "ollama"
    if headers:
        p["headers"] = headers
    return p


def of_recordings(rows, server):
    for i, (provider, model, n, f, sdk) in enumerate(rows):
        try:
            want, count = sdk(f.base(server.port, i, 0), model, TEXTS[:n])
            want = {"values": want, "input": count}
        except openai.NotFoundError as e:
            want = {"error": "E_NOT_FOUND", "says": e.body["message"]}
        for seed in range(SEEDS):
            yield {"id": "%s seed %d" % (f.key, seed), "config": {"providers": {provider: row_of(provider, f.base(server.port, i, seed))}},
                   "embed": {"model": "%s/%s" % (provider, model), "texts": TEXTS[:n], "max_attempts": 1}}, want


# ---- aimock ---------------------------------------------------------------------------------------

def ways(url):
    """name, provider, row, model, the SDK's answer. aimock has no Gemini batchEmbedContents and no Bedrock embeddings,
    and answers Ollama's /api/embed in the shape of its predecessor, which Ollama's SDK refuses."""
    yield "openai", "openai", row_of("openai", url), "text-embedding-3-small", by_openai(url, "text-embedding-3-small", TEXTS)
    yield "azure", "azure", {"url": url, "key": "sk-conform", "api_version": "2024-10-21"}, "text-embedding-3-small", \
        by_openai(url, "text-embedding-3-small", TEXTS, "azure")
    yield "mistral", "mistral", {"url": url + "/v1", "key": "sk-conform"}, "mistral-embed", by_openai(url, "mistral-embed", TEXTS)
    yield "cohere", "cohere", row_of("cohere", url), "embed-v4.0", by_cohere(url, "embed-v4.0", TEXTS)


def of_aimock(url):
    for name, provider, row, model, (values, count) in ways(url):
        ask = {"model": "%s/%s" % (provider, model), "texts": TEXTS, "max_attempts": 1, "deadline_ms": 20000}

        def one(headers):
            return {"providers": {provider: dict(row, headers=dict(STRICT_OFF, **headers))}}
        want = {"values": values, "input": count}
        yield {"id": "aimock %s" % name, "config": one({}), "embed": ask}, want
        yield {"id": "aimock %s latency" % name, "config": one({"x-aimock-chaos-latency": "400"}), "embed": ask}, dict(want, min_ms=380)
        yield {"id": "aimock %s late" % name, "config": one({"x-aimock-chaos-latency": "8000"}),
               "embed": dict(ask, deadline_ms=300)}, {"error": "E_DEADLINE", "max_ms": 1300}
        for switch, fault in aimock.CHAOS.items():
            c = one({"x-aimock-chaos-" + switch: "1"})
            yield {"id": "aimock %s chaos %s" % (name, switch), "config": c, "embed": ask}, \
                {k: v for k, v in fault.items() if k in ("error", "says", "retry_after_ms")}
            both = {"providers": dict(c["providers"], well=dict(row, dialect=row.get("dialect", provider), headers=STRICT_OFF)),
                    "routes": {"r": {"try": ["%s/%s" % (provider, model), "well/%s" % model]}}}
            yield {"id": "aimock %s chaos %s, then well" % (name, switch), "config": both,
                   "embed": dict(ask, model="r", max_attempts=2)}, dict(want, provider="well")
    for outcome, state in (("completed", "ended"), ("failed", "failed"), ("expired", "expired"), ("cancelled", "cancelled")):
        row = dict(row_of("openai", url), headers={"X-AIMock-Batch-Outcome": outcome})
        yield {"id": "aimock batch %s" % outcome, "config": {"providers": {"openai": row}},
               "batch": {"model": "openai/gpt-4o-mini", "prompts": TEXTS}}, {"state": state}


# ---- what came -----------------------------------------------------------------------------------

def wrong(want, o):
    if "state" in want:
        out = [] if o["state"] == want["state"] else ["state: %s %s" % (o["state"], o["error"])]
        texts = {str(i): {"code": "OK", "text": "Mock batch completion"} for i in range(len(TEXTS))}
        if want["state"] == "ended" and (o["results"] != texts or o["count"] != 3 or o["succeeded"] != 3):
            out.append("results: %s" % o["results"])
        return out
    out, e = [], o["error"]
    if e["code"] != want.get("error", "OK"):
        return ["error, not %s: %s %s" % (want.get("error", "OK"), e["code"], e["text"])]
    if want.get("says", "") not in e["text"]:
        out.append("error's text: " + e["text"])
    if "retry_after_ms" in want and e["retry_after_ms"] != want["retry_after_ms"]:
        out.append("retry_after_ms: %d" % e["retry_after_ms"])
    if "values" in want and not near(want["values"], o["values"]):
        out.append("vectors: %s, not %s" % (str(o["values"])[:100], str(want["values"])[:100]))
    if want.get("input") is not None and (not o["known"] or o["input"] != want["input"]):
        out.append("tokens: %s, not %s" % (o["input"], want["input"]))
    if "provider" in want and o["provider"] != want["provider"]:
        out.append("provider: " + o["provider"])
    if not want.get("min_ms", 0) <= o["ms"] <= want.get("max_ms", 20500):
        out.append("%d ms" % o["ms"])
    return out


def main():
    program, root, modules, out = sys.argv[1:5]
    began = time.time()
    rows = list(replies(root))
    server = replay.Server([r[3] for r in rows])
    jobs, skipped = list(of_recordings(rows, server)), 0
    mock = None
    try:
        mock = aimock.start(modules, out)
        jobs += of_aimock(mock.url)
    except (servers.NoServer, FileNotFoundError) as e:
        print("SKIP vectors.py: %s" % e)
        skipped = 1
    came, status, note = run(program, jobs)
    if mock:
        mock.stop()
    good, bad = 0, ["vectors ended with status %d: %s" % (status, note[-500:])] if status else []
    missing = {}
    for job, want in jobs:
        o = came.get(job["id"])
        if o is None:
            bad.append("%s: no answer" % job["id"])
        elif "refused" in o:
            missing[job["id"].split(" seed ")[0]] = o["refused"]
        elif wrong(want, o):
            bad.append("%s: %s" % (job["id"], "; ".join(wrong(want, o))))
        else:
            good += 1
    for line in bad[:60]:
        print("FAIL vectors: %s" % line)
    for name, why in missing.items():
        print("SKIP vectors: %s: %s" % (name, why))
    print("vectors: %d replies, recorded or made, cut %d times each, and aimock; %.1f s" % (len(rows), SEEDS, time.time() - began))
    print("%d passed, %d failed, %d skipped" % (good, len(bad), skipped + len(missing)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
