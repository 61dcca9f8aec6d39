#!/usr/bin/env python3
"""The conformance suite: every fixture over a real socket, cut at SEEDS x random places, decoded by llmgw.h
(decode.c), by the vendor's own SDK (sdk.py) and by a plain reading (plain.py). All three must say the same,
but for the rows of differences.py.

    conform.py DECODE FIXTURES [--asks ASK]    the suite
    conform.py --write-md                      writes differences.md from differences.py
    conform.py --stand-in - FIXTURES           compares the SDKs with the plain reading only
"""
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import differences  # noqa: E402
import fixtures  # noqa: E402
import plain  # noqa: E402
import replay  # noqa: E402

SEEDS = int(os.environ.get("CONFORM_SEEDS", "20"))
CUTS = int(os.environ.get("CONFORM_CUTS", "10"))
REFRAMED = int(os.environ.get("CONFORM_REFRAMED", "6"))
DAMAGED = int(os.environ.get("CONFORM_DAMAGED", "10"))
ONLY = os.environ.get("CONFORM_ONLY", "")  # part of a fixture's path

FIELDS = ["text", "reasoning", "refusal", "finish", "usage", "id", "model"]


# ---- putting the three readings into one form ---------------------------------------------------

def value_of(arguments):
    try:
        return json.loads(arguments)
    except (TypeError, ValueError):
        return {"not json": arguments}


def tools_of(r):
    return [[t["id"], t["name"], value_of(t["arguments"])] for t in r["tools"]]


def from_llmgw(o):
    r = {"text": o["text"], "reasoning": o["reasoning"], "refusal": o["refusal"], "tools": o["tools"],
         "finish": o["finish"], "id": o["reply_id"], "model": o["model_echo"], "error": None, "usage": None}
    if o["usage"]["known"]:
        r["usage"] = {k: v for k, v in o["usage"].items() if k != "known"}
    e = o["error"]
    if e["number"] != 0:
        r["error"] = {"code": e["code"], "status": e["status"], "text": e["text"],
                      "retry_after_ms": e["retry_after_ms"]}
    return r


def same_tools(want, got):
    """want's ids may be empty where the wire has none: then llmgw.h makes one up."""
    if len(want) != len(got):
        return False
    for w, g in zip(want, got):
        if w[1:] != g[1:] or (w[0] and w[0] != g[0]):
            return False
    return True


def exact_arguments(f):
    """Is the text of arguments on the wire a string of its own, so that it must come out byte for byte?"""
    return f.dialect in ("openai", "responses", "cohere") or (f.dialect in ("anthropic", "bedrock") and f.stream)


def compare(f, who, want, got):
    """Differences as (field, want, got)."""
    out = []
    if (want["error"] is None) != (got["error"] is None):
        return [("error", want["error"] and want["error"]["code"], got["error"] and got["error"]["code"])]
    if want["error"]:
        w, g = want["error"], got["error"]
        for k in ("code", "status"):
            if w[k] != g[k]:
                out.append(("error." + k, w[k], g[k]))
        if not f.foreign and w["text"] and w["text"][:80] not in g["text"]:
            out.append(("error.text", w["text"][:80], g["text"][:120]))
        if who == "plain":
            if w.get("retry_after_ms", 0) != g["retry_after_ms"]:
                out.append(("error.retry_after_ms", w["retry_after_ms"], g["retry_after_ms"]))
            if want["text"] != got["text"]:
                out.append(("error.partial", want["text"], got["text"]))
        return out
    for k in FIELDS:
        if want[k] != got[k]:
            out.append((k, want[k], got[k]))
    wt, gt = tools_of(want), tools_of(got)
    if not same_tools(wt, gt):
        # An id that llmgw.h made up is not the same on every run.
        out.append(("tools", wt, [g if i >= len(wt) or wt[i][0] else [""] + g[1:] for i, g in enumerate(gt)]))
    elif who == "plain" and exact_arguments(f):  # names, ids and values agree: the bytes too?
        wa, ga = [t["arguments"] for t in want["tools"]], [t["arguments"] for t in got["tools"]]
        if wa != ga:
            out.append(("tools.arguments", wa, ga))
    return out


def laws(o):
    """What must hold of every reply, whatever the fixture says."""
    out = []
    if o["event_text"] != o["text"]:
        out.append(("law: events' text = reply's text", o["text"], o["event_text"]))
    if o["error"]["number"] == 0 or not o["rewinds"]:
        if o["event_reasoning"] != o["reasoning"]:
            out.append(("law: events' reasoning = reply's", o["reasoning"], o["event_reasoning"]))
    if o["error"]["number"] == 0:
        a = [[t["id"], t["name"], t["arguments"]] for t in o["tools"]]
        b = [[t["id"], t["name"], t["arguments"] or "{}"] for t in o["event_tools"]]
        if a != b:
            out.append(("law: events' tools = reply's tools", a, b))
    if o["ends"] != 1:
        out.append(("law: END exactly once", 1, o["ends"]))
    if o["bad_events"]:
        out.append(("law: events well formed", 0, o["bad_events"]))
    if o.get("close"):
        out.append(("law: llmgw_close", "OK", o["close"]))
    if (o["error"]["number"] == 0) == (o["finish"] == "none"):
        out.append(("law: an answer has a finish, an error has none", o["error"]["code"], o["finish"]))
    if any(not t["id"] for t in o["tools"]):
        out.append(("law: every tool call has an id", "", [t["id"] for t in o["tools"]]))
    if len({t["id"] for t in o["tools"]}) != len(o["tools"]):
        out.append(("law: ids of tool calls are unique", "", [t["id"] for t in o["tools"]]))
    return out


def cut_laws(f, seed, whole, o):
    """A stream that broke off: an error with the beginning of the answer, or else the whole answer."""
    out = laws(o)
    r = from_llmgw(o)
    if r["error"]:
        if not whole["error"] and r["error"]["code"] not in ("E_TRUNCATED", "E_NETWORK", "E_PROTOCOL"):
            out.append(("cut: kind of error", "E_TRUNCATED, E_NETWORK or E_PROTOCOL", r["error"]["code"]))
        if not whole["text"].startswith(r["text"]):
            out.append(("cut: beginning of the text", whole["text"], r["text"]))
    else:
        if whole["error"]:  # it broke off before the error came, after a finish reason
            whole = plain.read(replay.cut_fixture(f, seed))
            if whole["error"]:
                return out + [("cut: error", whole["error"]["code"], None)]
        for k in ("text", "reasoning", "refusal", "finish"):
            if whole[k] != r[k]:
                out.append(("cut: %s of a success" % k, whole[k], r[k]))
        if not same_tools(tools_of(whole), tools_of(r)):
            out.append(("cut: tools of a success", tools_of(whole), tools_of(r)))
    return out


def short(v, n=150):
    s = json.dumps(v, ensure_ascii=False, sort_keys=True)
    return s if len(s) <= n else s[:n] + "..."


# ---- running ------------------------------------------------------------------------------------

# llmgw.h's base urls end where the known provider's url ends; the SDKs' bases are their own affair.
BASE = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "responses": "/v1", "bedrock": "", "ollama": "",
        "cohere": "/v2"}


def more_seeds(f):
    damaged = DAMAGED if f.framing == "eventstream" else 0
    return [replay.CUT + i for i in range(CUTS)] + [replay.REFRAME + i for i in range(REFRAMED)] + [replay.LINGER] + \
           [replay.DAMAGE + i for i in range(damaged)]


def run_llmgw(decode, fx, server):
    jobs = []
    for i, f in enumerate(fx):
        for seed in range(SEEDS):
            jobs.append({"id": "%d/%d" % (i, seed), "provider": f.provider, "dialect": f.dialect,
                         "url": f.base(server.port, i, seed) + BASE[f.dialect], "model": "replay",
                         "stream": f.stream, "send": seed % 2 == 1})
        if f.stream and not f.array and not f.foreign:
            for seed in more_seeds(f):
                jobs.append(dict(jobs[-1], id="%d/%d" % (i, seed), send=seed % 4 >= 2,
                                 url=f.base(server.port, i, seed) + BASE[f.dialect]))
    text = "".join(json.dumps(j) + "\n" for j in jobs)
    p = subprocess.run([decode], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=240)
    results = {}
    refused = {}
    for line in p.stdout.splitlines():
        o = json.loads(line)
        if "refused" in o:
            refused[fx[int(o["id"].split("/")[0])].key] = o["refused"]
        else:
            results[o["id"]] = o
    if p.returncode != 0:
        print("decode ended with status %d: %s" % (p.returncode, p.stderr.strip()[-2000:]))
    return results, p.stderr.strip(), p.returncode, refused


def write_md():
    lines = ["# Differences between llmgw.h and the official SDKs", "",
             "Made by `conform.py --write-md` from differences.py, which the suite checks on every run: a",
             "difference that is not listed fails, and so does one that is listed and gone. The plain reading",
             "(plain.py) agrees with llmgw.h on every field of every fixture unless a row says `plain`.", "",
             "| reading | fixture | field | it says | llmgw.h says | why |", "|---|---|---|---|---|---|"]
    for who, key, field, want, got, why in differences.ROWS:
        cells = [who, key, field, "`%s`" % short(want, 200), "`%s`" % short(got, 200), why]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    for key, odd in sorted(differences.UNKNOWN_KEYS.items()):
        lines.append("| SDK's request type | request %s | keys | - | `%s` | %s |"
                     % (key, short(odd), differences.UNKNOWN_KEYS_WHY))
    for key, why in sorted(differences.SAID_OTHERWISE.items()):
        lines.append("| SDK's request type | request %s | input | - | - | %s |" % (key, why))
    lines += ["", "## Bodies that are no reply to a chat call", "",
              "Both sides must call these an error (E_PROTOCOL); they are served as hostile replies.", ""]
    lines += ["- %s: %s" % kv for kv in sorted(differences.FOREIGN.items())]
    return "\n".join(lines) + "\n"


def main():
    args = sys.argv[1:]
    if args == ["--write-md"]:
        with open(os.path.join(HERE, "differences.md"), "w") as out:
            out.write(write_md())
        return 0
    stand_in = args[0] == "--stand-in"
    if stand_in:
        args = args[1:]
    decode, root = args[0], args[1]
    ask = args[args.index("--asks") + 1] if "--asks" in args else None

    import sdk
    began = time.time()
    fx = [f for f in fixtures.load(root) if ONLY in f.key]
    server = replay.Server(fx)
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(lambda i: sdk.read(fx[i], fx[i].base(server.port, i, 0)), range(len(fx))))
    plains = [plain.read(f) for f in fx]
    sdk_seconds = time.time() - began

    passed = failed = skipped = 0
    note, status, refused = "", 0, {}
    if stand_in:
        got = {}
    else:
        began = time.time()
        before = server.pieces_sent
        got, note, status, refused = run_llmgw(decode, fx, server)
        note += "; sent in %d pieces; %.1f s" % (server.pieces_sent - before, time.time() - began)
        failed += status != 0

    rows = {(r[0], r[1], r[2]): r for r in differences.ROWS}
    met, used, table, failures, lost, cut_codes = set(), {}, {}, [], [], {}

    def fail(line):
        failures.append(line)

    for key, why in refused.items():  # a dialect that this header has not
        print("SKIP %s: %s" % (key, why))
        skipped += 1
    for i, f in enumerate(fx):
        if f.key in refused:
            continue
        want, how = readings[i]
        used[f.key] = how if want is not None else "plain json (%s)" % how
        t = table.setdefault(f.folder, [0, 0, 0, 0, 0, 0, 0])
        t[0] += 1
        t[1] += f.byte_exact
        t[2 if want is not None else 3] += 1
        for seed in range(1 if stand_in else SEEDS):
            wrong = []
            if stand_in:
                r = plains[i]
                found = []
            else:
                o = got.get("%d/%d" % (i, seed))
                if o is None:
                    t[5] += 1
                    lost.append("%s seed %d" % (f.key, seed))
                    continue
                r = from_llmgw(o)
                found = [("law",) + d for d in laws(o)]
                found += [("plain",) + d for d in compare(f, "plain", plains[i], r)]
            if want is not None:
                found += [("sdk",) + d for d in compare(f, "sdk", want, r)]
            explained = 0
            for who, field, w, g in found:
                row = rows.get((who, f.key, field))
                if row and json.loads(json.dumps(row[3])) == json.loads(json.dumps(w)) \
                        and json.loads(json.dumps(row[4])) == json.loads(json.dumps(g)):
                    met.add(row[:3])
                    explained += 1
                else:
                    wrong.append("%s seed %d: %s: %s %s, llmgw.h %s"
                                 % (f.key, seed, field, who, short(w), short(g)))
            if f.key in [k[1] for k in rows if k[1] == f.key] and explained < \
                    sum(1 for k in rows if k[1] == f.key):
                wrong.append("%s seed %d: a listed difference did not show" % (f.key, seed))
            t[4 if not wrong else 5] += 1
            t[6] = t[6] + (explained > 0 and seed == 0)
            for line in wrong:
                fail(line)

    cuts, dressed, damaged = [0, 0], [0, 0], [0, 0]
    for i, f in enumerate(fx):
        for seed in more_seeds(f):
            o = got.get("%d/%d" % (i, seed))
            if o is None:
                continue
            if seed >= replay.DAMAGE:
                r, found = from_llmgw(o), laws(o)
                if not r["error"] or r["error"]["code"] != "E_PROTOCOL":
                    found.append(("error", "E_PROTOCOL", r["error"] and r["error"]["code"]))
                if not plains[i]["text"].startswith(r["text"]):
                    found.append(("beginning of the text", plains[i]["text"], r["text"]))
                damaged[bool(found)] += 1
                for field, w, g in found:
                    fail("%s seed %d: damaged: %s: expected %s, llmgw.h %s" % (f.key, seed, field, short(w), short(g)))
                continue
            if seed >= replay.REFRAME:
                found = laws(o) + [d for d in compare(f, "plain", plains[i], from_llmgw(o))
                                   if ("plain", f.key, d[0]) not in rows]
                dressed[bool(found)] += 1
                for field, w, g in found:
                    fail("%s seed %d: %s: %s: plain %s, llmgw.h %s"
                         % (f.key, seed, "late end" if seed == replay.LINGER else "reframed", field, short(w), short(g)))
                continue
            found = cut_laws(f, seed, plains[i], o)
            cuts[bool(found)] += 1
            cut_codes[o["error"]["code"]] = cut_codes.get(o["error"]["code"], 0) + 1
            for field, w, g in found:
                fail("%s seed %d: %s: expected %s, llmgw.h %s" % (f.key, seed, field, short(w), short(g)))
    passed += cuts[0] + dressed[0] + damaged[0]
    failed += cuts[1] + dressed[1] + damaged[1]

    print("%-24s %9s %10s %5s %6s %8s %7s %7s" % ("folder", "fixtures", "byte-exact", "sdk", "plain",
                                                  "explained", "passed", "failed"))
    for folder, t in table.items():
        print("%-24s %9d %10d %5d %6d %8d %7d %7d" % (folder, t[0], t[1], t[2], t[3], t[6], t[4], t[5]))
        passed += t[4]
        failed += t[5]
    print("(sdk: the official SDK and the plain reading both; plain: the SDK refuses the body. passed and failed"
          " count fixture x seed)")
    kinds = {}
    for how in used.values():
        kinds[how] = kinds.get(how, 0) + 1
    print("read by: " + "; ".join("%s %d" % kv for kv in sorted(kinds.items())))
    print("streams broken off in the middle: %d passed, %d failed (%s)"
          % (cuts[0], cuts[1], ", ".join("%s %d" % kv for kv in sorted(cut_codes.items()))))
    print("streams framed anew, or whose end comes late (SSE: LF, CRLF, CR, BOM, comments, several data lines; JSON lines: CRLF, empty lines; event "
          "streams: other headers and events): %d passed, %d failed" % tuple(dressed))
    print("event streams with one bit flipped: %d passed, %d failed" % tuple(damaged))
    for key, how in used.items():
        if how.startswith("plain") or os.environ.get("CONFORM_VERBOSE"):
            print("  read by %s: %s" % (how[:100], key))
    if note:
        print(note)
    print("SDK readings took %.1f s" % sdk_seconds)

    if lost:
        fail("decode did not answer %d jobs, the first: %s" % (len(lost), lost[0]))

    # the table of differences
    if not ONLY:
        keys = {f.key for f in fx}
        for r in differences.ROWS:
            if r[:3] in met or stand_in or r[1] in refused:
                passed += 1
            else:
                failed += 1
                fail("differences.py: no longer so: %s %s %s" % r[:3]
                     + ("" if r[1] in keys else " (there is no such fixture)"))
        listed = set(differences.FOREIGN)
        if listed != {f.key for f in fx if f.foreign}:
            failed += 1
            fail("differences.FOREIGN is not what fixtures.py calls foreign: %s"
                 % sorted(listed ^ {f.key for f in fx if f.foreign}))
        with open(os.path.join(HERE, "differences.md")) as md:
            if md.read() == write_md():
                passed += 1
            else:
                failed += 1
                fail("differences.md is not made of differences.py: run conform.py --write-md")

    if ask and not ONLY:
        import reqcheck
        good, bad = reqcheck.run(ask, fx, server)
        passed += good
        failed += len(bad)
        failures += bad
        import asks
        good, bad, missing = asks.run(decode, server)
        passed += good
        failed += len(bad)
        failures += bad
        for target, why in missing.items():
            print("SKIP requests of %s: %s" % (target, why))
            skipped += 1

    seen = {}
    for line in failures:  # one line per fixture and field, however many seeds
        k = line.split(" seed ")[0] + line.partition(": ")[2]
        seen.setdefault(k, [line, 0])[1] += 1
    for line, n in list(seen.values())[:100]:
        print("FAIL %s%s" % (line, "" if n == 1 else "  (and %d more seeds)" % (n - 1)))
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
