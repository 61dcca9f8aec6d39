"""A replaying server. The URL chooses the fixture and the seed: /f<index>/<seed>/<anything>.

The whole reply (head, chunk framing, body) is laid out as bytes first, with chunk sizes chosen by the seed,
and is then cut into pieces at places chosen by the seed. Every piece is one write, with TCP_NODELAY and a
pause after it, so that the reader sees it as a read of its own."""
import asyncio
import random
import socket
import struct
import threading

import frames
import plain

MAX_PIECES = 160

REASON = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}

# seed % 10 chooses how to chunk and how to cut
STYLES = ["random", "inside", "bytes", "tiny-chunks", "one-write", "random-fine", "inside", "bytes",
          "line-ends", "length"]


def layout(body, status, headers, rng, style):
    """The bytes of the reply, and the ranges of them that are chunk framing."""
    head = "HTTP/1.1 %d %s\r\n" % (status, REASON.get(status, "Status"))
    for k, v in headers.items():
        head += "%s: %s\r\n" % (k, v)
    if style == "length":
        head += "Content-Length: %d\r\n\r\n" % len(body)
        raw = head.encode("latin-1") + body
        return raw, [len(head)], []
    head += "Transfer-Encoding: chunked\r\n\r\n"
    out = bytearray(head.encode("latin-1"))
    framing = []
    i = 0
    while i < len(body):
        if style == "one-write":
            n = len(body)
        elif style == "tiny-chunks":
            n = rng.randint(1, 9) if len(body) < 9000 else rng.randint(1, 400)
        else:
            n = rng.choice([1, 2, 3, 17, 64, 200, 1000, 4096, 16000])
            n = rng.randint(1, n) if len(body) < 9000 else rng.randint(n // 2 + 1, 4 * n)
        part = body[i:i + n]
        size = rng.choice(["%x", "%X", "%04x"]) % len(part)
        if rng.random() < 0.05:
            size += ";ext=1"
        framing.append((len(out), len(out) + len(size) + 2))
        out += size.encode() + b"\r\n" + part
        framing.append((len(out), len(out) + 2))
        out += b"\r\n"
        i += n
    framing.append((len(out), len(out) + 5))
    out += b"0\r\n\r\n"
    return bytes(out), [len(head)], framing


def cuts_of(raw, head_end, framing, rng, style):
    n = len(raw)
    if style == "one-write":
        return []
    cuts = set()
    if style in ("random", "length", "tiny-chunks", "random-fine"):
        k = min(n // 2, 25 if style != "random-fine" else 90)
        cuts.update(rng.randrange(1, n) for _ in range(k))
        cuts.add(head_end)
    elif style == "inside":
        good = []
        for i in range(1, n):
            c = raw[i]
            if 0x80 <= c < 0xC0:               # between the bytes of one character
                good.append(i)
            elif c == 10 and raw[i - 1] == 13:  # between CR and LF
                good.append(i)
        for a, b in framing:                   # within chunk sizes and chunk ends
            good.extend(range(a + 1, b))
        at = raw.find(b"\\", head_end)         # within JSON escapes
        while at >= 0:
            good.append(at + 1)
            at = raw.find(b"\\", at + 2)
        rng.shuffle(good)
        cuts.update(good[:110])
        cuts.update(rng.randrange(1, n) for _ in range(5))
    elif style == "line-ends":
        at = raw.find(b"\n")
        good = []
        while at >= 0:
            good += [at, at + 1]
            at = raw.find(b"\n", at + 1)
        rng.shuffle(good)
        cuts.update(good[:110])
    elif style == "bytes":
        if n <= MAX_PIECES:
            cuts.update(range(1, n))
        else:                                  # windows of single bytes, the head's end and the tail too
            starts = [max(0, head_end - 8), n - 30] + [rng.randrange(0, n) for _ in range(3)]
            for s in starts:
                cuts.update(range(s, s + 25))
    cuts = sorted(c for c in cuts if 0 < c < n)
    if len(cuts) > MAX_PIECES:
        cuts = sorted(rng.sample(cuts, MAX_PIECES))
    return cuts


CUT = 1000  # seeds from here on: the body breaks off; odd ones take the connection with them


def cut_body(body, rng, framing):
    where = rng.randrange(0, len(body))
    if rng.random() < 0.5:  # half of them between two events
        where = event_end(body, where, framing)
    return body[:max(where, 1)]


def event_end(body, where, framing):
    """Where the last event that is whole before `where` ends."""
    if framing == "lines":
        return body.rfind(b"\n", 0, where) + 1
    if framing == "eventstream":
        at = 0
        while at + 4 <= where and at + struct.unpack(">I", body[at:at + 4])[0] <= where:
            at += struct.unpack(">I", body[at:at + 4])[0]
        return at
    ends = (body.rfind(b"\n\n", 0, where) + 2, body.rfind(b"\r\n\r\n", 0, where) + 4)
    return max(e for e in ends + (0,) if e not in (1, 3))


def cut_fixture(f, seed):
    """A copy of f with the complete events that a cut of this seed lets through."""
    g = object.__new__(type(f))
    g.__dict__.update(f.__dict__)
    cut = cut_body(f.body, random.Random("%s/%s" % (f.key, seed)), f.framing)
    g.body = cut[:event_end(cut, len(cut), f.framing)]
    return g


REFRAME = 2000  # seeds from here on: the same events in another dress, as the standard allows it


def reframe(body, rng, framing):
    return {"sse": reframe_sse, "lines": reframe_lines, "eventstream": reframe_messages}[framing](body, rng)


def reframe_lines(body, rng):
    """CRLF, empty lines, spaces around the JSON, no line end after the last."""
    end, out = rng.choice([b"\n", b"\r\n"]), []
    for line in body.rstrip(b"\n").split(b"\n"):
        if rng.random() < 0.2:
            out.append(b"")
        out.append(rng.choice([b"", b" ", b"\t"]) + line + rng.choice([b"", b" "]))
    return end.join(out) + rng.choice([b"", end, end + end])


MORE_HEADERS = [(":x-true", 0, b""), ("x-false", 1, b""), ("x-byte", 2, b"\x7f"), ("x-short", 3, b"\1\2"),
                ("x-int", 4, b"\0\0\0\1"), ("x-long", 5, b"\0" * 8), ("x-bytes", 6, b"\xff\0\xfe"), ("x-text", 7, b"?"),
                ("x-time", 8, b"\0" * 8), ("x-uuid", 9, b"\x55" * 16)]


def reframe_messages(body, rng):
    """Headers in another order and with others among them, of every type; events that nobody knows."""
    out = []
    for headers, payload in plain.messages(body):
        mine = [(n, 7, v.encode()) for n, v in headers.items()]
        mine += rng.sample(MORE_HEADERS, rng.randrange(0, 4))
        rng.shuffle(mine)
        if rng.random() < 0.2:
            out.append(frames.event("heartbeat", {"p": "abc"}))
        out.append(frames.message(mine, payload))
    return b"".join(out)


LINGER = 2900  # this seed: the transfer's end comes late, after all that the stream has to say
LATE_S = 0.35

DAMAGE = 3000  # seeds from here on: one bit of an event stream is another


def damage(body, rng):
    at = rng.randrange(0, len(body) * 8)
    return body[:at // 8] + bytes([body[at // 8] ^ (1 << at % 8)]) + body[at // 8 + 1:]


def reframe_sse(body, rng):
    """LF, CRLF or CR; a byte order mark; comments, id and retry; data in several lines, with and without the
    space. The recordings have little of this; what they mean stays the same."""
    end = rng.choice(["\n", "\r\n", "\r"])
    out = []
    for line in body.decode("utf-8").replace("\r\n", "\n").split("\n"):
        if line and rng.random() < 0.2:
            out.append(rng.choice([": keep-alive", ":", "id: 7", "retry: 1500", "unknown", "unknown: x"]))
        if not line.startswith("data: {"):
            out.append(line)
            continue
        rest, quoted, escaped, places = line[6:], False, False, []
        for i, c in enumerate(rest):
            if quoted and not escaped and c == "\\":
                escaped = True
                continue
            if c == '"' and not escaped:
                quoted = not quoted
            elif not quoted and c in ",:{[":
                places.append(i + 1)
            escaped = False
        last = 0
        for at in sorted(rng.sample(places, min(len(places), rng.choice([0, 1, 1, 2, 5])))) + [len(rest)]:
            out.append(rng.choice(["data: ", "data:"]) + rest[last:at])
            last = at
    mark = rng.choice(["", "\ufeff"])
    return (mark + end.join(out)).encode("utf-8")


def pieces(f, seed):
    """The reply as the bytes of each write."""
    body, status, headers = f.body, f.status, f.headers
    rng = random.Random("%s/%s" % (f.key, seed))
    style = STYLES[seed % len(STYLES)]
    if seed >= DAMAGE:
        body = damage(body, rng)
    elif seed == LINGER:
        style = "one-write"
    elif seed >= REFRAME:
        body = reframe(body, rng, f.framing)
    elif seed >= CUT:
        body = cut_body(body, rng, f.framing)
        style = rng.choice(["random", "tiny-chunks", "line-ends"])
    raw, heads, framing = layout(body, status, headers, rng, style)
    if CUT <= seed < REFRAME and seed % 2:
        raw = raw[:framing[-2][0]] if rng.random() < 0.5 else raw[:framing[-1][0]]
    cuts = [framing[-1][0]] if seed == LINGER else cuts_of(raw, heads[0], framing, rng, style)
    out, last = [], 0
    for c in cuts + [len(raw)]:
        out.append(raw[last:c])
        last = c
    return out


class Server:
    """Runs in a thread of its own. captured: (path, headers, body) of requests under /capture/."""

    def __init__(self, fixtures):
        self.fixtures = fixtures
        self.captured = []
        self.pieces_sent = 0
        self.bytes_sent = 0
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.main, daemon=True)
        self.thread.start()
        self.ready.wait()

    def main(self):
        asyncio.run(self.serve())

    async def serve(self):
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        async with server:
            await server.serve_forever()

    async def connection(self, reader, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self.request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def request(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        path = lines[0].split(" ")[1]
        headers = {}
        for line in lines[1:]:
            if ":" in line:
                k, v = line.split(":", 1)
                headers[k.strip().lower()] = v.strip()
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
        body = b""
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                n = int((await reader.readline()).split(b";")[0], 16)
                body += await reader.readexactly(n)
                await reader.readexactly(2)
                if n == 0:
                    break
        seg = path.split("?")[0].split("/")
        if len(seg) > 3 and seg[1] == "capture":
            self.captured.append((seg[2], path, headers, body))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 29\r\n\r\n" + b'{"error":{"message":"noted"}}')
            await writer.drain()
            return True
        try:
            f = self.fixtures[int(seg[1][1:])]
            seed = int(seg[2])
        except (ValueError, IndexError):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        for piece in pieces(f, seed):
            writer.write(piece)
            self.pieces_sent += 1
            self.bytes_sent += len(piece)
            await writer.drain()
            await asyncio.sleep(LATE_S if seed == LINGER else 0.001)
        if CUT <= seed < REFRAME and seed % 2:
            return False
        return headers.get("connection", "").lower() != "close"
