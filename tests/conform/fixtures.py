"""The list of fixtures: what is served, with which status and headers, and to which dialect it belongs."""
import json
import os
import re
import uuid

import frames
import made

FOLDERS = ["openai-chat", "anthropic-messages", "gemini-generatecontent", "deepseek", "mistral",
           "qwen-dashscope", "groq", "moonshot", "openrouter", "ollama", "openai-responses", "azure-openai",
           "bedrock-converse", "bedrock-generated", "cohere"]

# The provider name given to llmgw.h for each folder: a known name, so that its quirks are in force.
PROVIDER = {"openai-chat": "openai", "anthropic-messages": "anthropic", "gemini-generatecontent": "gemini",
            "deepseek": "deepseek", "mistral": "mistral", "qwen-dashscope": "qwen", "groq": "groq",
            "moonshot": "moonshot", "openrouter": "openrouter", "ollama": "ollama", "openai-responses": "openai",
            "azure-openai": "azure", "bedrock-converse": "bedrock", "bedrock-generated": "bedrock", "cohere": "cohere",
            "embeddings": "openai"}
DIALECT = {"anthropic-messages": "anthropic", "gemini-generatecontent": "gemini", "openai-responses": "responses",
           "bedrock-converse": "bedrock", "bedrock-generated": "bedrock", "cohere": "cohere"}

# HTTP status of error bodies which upstream keeps without a meta file.
STATUS = {
    "openai-chat/vercel__reasoning-model-legacy-parameter-error.json": 400,
    "anthropic-messages/literal__prefill-rejected.400.json": 400,
    "gemini-generatecontent/vercel__google-429-retry-info.json": 429,
    "openai-responses/vercel__openai-error.1.json": 429,
    "openai-responses/vercel__reasoning-model-temperature-error.json": 400,
}
STREAMS = (".sse", ".chunks.txt", ".eventstream.bin")

# Headers that describe the recorded hop, not the body we send.
DROP = {"content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "date",
        "alt-svc", "server", "strict-transport-security"}


class Fixture:
    def __init__(self, root, folder, name):
        self.folder = folder
        self.name = name                       # file name
        self.key = folder + "/" + name
        with open(os.path.join(root, folder, name), "rb") as f:
            self.body = f.read()
        self.recorded = ".response." in name   # a cassette; framing is byte-exact only for .sse
        self.byte_exact = name.endswith((".response.sse", ".response.eventstream.bin"))
        self.status = STATUS.get(self.key, 200)
        self.headers = {}
        self.method = "POST"
        uri = ""
        meta = re.sub(r"\.response\.(sse|json|txt|eventstream\.bin)$", ".meta.json", name)
        meta = os.path.join(root, folder, meta)
        if self.recorded and os.path.exists(meta):
            with open(meta, encoding="utf-8") as f:
                m = json.load(f)
            self.status = m["status"]
            self.method = m["method"]
            uri = m["uri"]
            self.headers = {k: v for k, v in m["response_headers"].items() if k.lower() not in DROP}
        self.provider = PROVIDER[folder]
        self.dialect = DIALECT.get(folder, "openai")
        if folder == "azure-openai" and "model-router" not in name:  # the others are of its Responses API
            self.dialect = "responses"
        self.framing = {"bedrock": "eventstream"}.get(self.dialect, "sse")
        self.type_headers(name.endswith(STREAMS))
        # A few cassettes lie in a folder of another dialect: the recorded URL decides.
        if "enerateContent" in uri:
            self.dialect, self.provider = "gemini", "gemini"
        self.stream = name.endswith(STREAMS) or "streamGenerateContent" in uri
        self.array = self.stream and name.endswith(".json")  # gemini without alt=sse
        # Gemini's JSON array is what comes without alt=sse: google-genai refuses it, llmgw.h reads it. The same
        # content framed as sse is served as well (see load).
        # Bodies that are no reply to a chat call at all (a models list, an mp3, embeddings, the Responses
        # API, a stray JSON object). They stay in as hostile replies: both sides must call them an error.
        self.foreign = (self.method != "POST" or (uri.endswith("/responses") and self.dialect != "responses")
                        or "embedding" in name
                        or self.key == "openai-chat/pydanticai__test_invalid_response.response.json")
        if name.endswith(".chunks.txt"):
            self.body = frame_chunks(self.body, self.dialect)

    def type_headers(self, stream):
        """What the recorder left out: the content type, and what AWS says in headers rather than in the body."""
        if not any(k.lower() == "content-type" for k in self.headers):
            self.headers["content-type"] = TYPES[self.framing] if stream else "application/json"
        if self.dialect == "bedrock":
            self.headers["x-amzn-RequestId"] = str(uuid.uuid5(uuid.NAMESPACE_URL, self.key))
            if self.status == 400:
                self.headers["x-amzn-ErrorType"] = "ValidationException:http://internal.amazon.com/coral/"

    def base(self, port, index, seed):
        b = "http://127.0.0.1:%d/f%d/%d" % (port, index, seed)
        return b


TYPES = {"sse": "text/event-stream", "lines": "application/x-ndjson", "eventstream": "application/vnd.amazon.eventstream"}


def frame_chunks(raw, dialect):
    """Only for a .chunks.txt without an .sse beside it: one event for each line of JSON."""
    out = []
    if dialect == "bedrock":
        return b"".join(frames.event(*list(json.loads(line).items())[0]) for line in raw.splitlines() if line.strip())
    for line in raw.decode("utf-8").splitlines():
        if not line.strip():
            continue
        if dialect == "anthropic":
            out.append("event: %s\n" % json.loads(line)["type"])
        out.append("data: %s\n\n" % line)
    if dialect == "openai":
        out.append("data: [DONE]\n\n")
    return "".join(out).encode()


def load(root, folders=FOLDERS):
    out = []
    for folder in folders:
        d = os.path.join(root, folder)
        if not os.path.isdir(d):
            continue
        names = sorted(os.listdir(d))
        for n in names:
            if n.endswith((".meta.json", "README.txt")):
                continue
            if n.endswith(".chunks.txt") and n[:-len(".chunks.txt")] + ".sse" in names:
                continue
            out.append(Fixture(root, folder, n))
    # The arrays a second time, framed as alt=sse would have: llmgw.h always asks for alt=sse, so this
    # is what it would really meet. The framing is ours.
    for f in list(out):
        if f.array:
            g = object.__new__(Fixture)
            g.__dict__.update(f.__dict__)
            g.key += " (as sse)"
            g.name += " (as sse)"
            g.array = g.foreign = False
            g.headers = dict(f.headers)
            g.headers = {k: v for k, v in g.headers.items() if k.lower() != "content-type"}
            g.headers["content-type"] = "text/event-stream"
            g.body = "".join("data: %s\r\n\r\n" % json.dumps(o, ensure_ascii=False)
                             for o in json.loads(f.body)).encode()
            out.append(g)
    out.sort(key=lambda f: folders.index(f.folder))
    return out + [Made(*m) for m in made.BODIES]


class Made(Fixture):
    """One of made.py's, in the place of a recording."""

    def __init__(self, name, dialect, provider, framing, status, body):
        self.folder, self.name, self.key = "made", name, "made/" + name
        self.dialect, self.provider, self.status, self.body = dialect, provider, status, body
        self.framing, self.stream = framing or "sse", framing is not None
        self.recorded = self.byte_exact = self.foreign = self.array = False
        self.method, self.headers = "POST", {}
        self.type_headers(self.stream)
