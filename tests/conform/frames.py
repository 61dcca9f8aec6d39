"""Messages of AWS event streams, written by struct and zlib alone (WIRE.md 3)."""
import json
import struct
import zlib


def message(headers, payload):
    """A message of an AWS event stream: headers are (name, type, value as it stands on the wire)."""
    head = b"".join(struct.pack(">B", len(n)) + n.encode() + struct.pack(">B", t)
                    + (struct.pack(">H", len(v)) if t in (6, 7) else b"") + v for n, t, v in headers)
    start = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    whole = start + struct.pack(">I", zlib.crc32(start)) + head + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(name, value, kind="event"):
    payload = json.dumps(value, ensure_ascii=False).encode()
    return message([(":%s-type" % kind, 7, name.encode()), (":content-type", 7, b"application/json"),
                    (":message-type", 7, kind.encode())], payload)
