#!/usr/bin/env python3
"""The house rules of llmgw.h, checked.

    tests/lint.py [HEADER]     checks it (llmgw.h); prints problems and a few figures; status 1 on a problem
    tests/lint.py --self-test  feeds each rule an input that breaks it and one that does not

The header consists of sections. Each begins with a banner, a comment line that starts with "/* >>tag"
and says purpose:, uses: and guarantees:, and goes on to the next banner. The rules:

  banner    a banner says all three; the order equals the CONTENTS list; a section uses only what stands
            above it and what MAY_USE allows it
  uses      llmgwi_X_... in section S: X is S, base, or in what S's banner lists
  name      what the implementation defines is called llmgwi_<section>_... or LLMGWI_...;
            llmgw_... and LLMGW_... only when the api section declares it
  length    no function over 70 lines
  if        #if, #ifdef, #ifndef, #elif only in api, base, store, http
  include   #include only in api, base, store, http
  literal   no string literal over 4,095 bytes (adjacent ones count together)
  c++       no designated initialisers, no compound literals
  comment   every public function has a comment, or shares that of its group
  curl      libcurl's names only in http; likewise LMDB's only in store
  os        malloc and its family, threads, clocks, polling: only in base
"""
import re
import sys

MAX_FUNCTION_LINES = 70
MAX_LITERAL_BYTES = 4095

# The most that a section's banner may list. None: everything above it.
MAY_USE = {
    "api": [], "base": [], "text": [], "json": ["text"], "frame": [], "crypto": [],
    "dialect": ["json", "text", "frame", "crypto"],
    "schema": ["json"], "config": ["json", "dialect"], "price": ["json"],
    "health": [], "route": ["health", "price"], "store": [],
    "ledger": ["store", "price", "json"], "auth": ["store", "crypto"],
    "calibrate": [], "index": ["text", "store"],
    "cache": ["store", "text", "json", "price", "calibrate", "index"], "http": [],
    "engine": None, "report": None, "public": None,
}
IF_SECTIONS = INCLUDE_SECTIONS = ("api", "base", "store", "http")
# Not sections, but a banner may name them in uses:.
OUTSIDE = {"nothing", "base", "libc", "os", "the os", "libcurl", "lmdb", "xxhash", "stddef", "stdint",
           "stdbool", "api"}
OS_CALLS = (r"(?<![\w.>])(?:malloc|calloc|realloc|free|strdup|strndup|time|clock|rand|random|nanosleep|"
            r"usleep|sleep|select|poll|getrandom|pipe|pipe2|eventfd|clock_gettime|gettimeofday|"
            r"pthread_\w+|epoll_\w+|timerfd_\w+)\s*\(")


# ---- reading ----

def blank(text):
    return re.sub(r"[^\n]", " ", text)


TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])*'", re.S)


def strip(source):
    """The source without comments, and without what is inside literals; the same length and lines.
    Also the list of string literals as (offset, end, bytes)."""
    literals = []

    def one(match):
        token = match.group(0)
        if token[0] == "/":
            return blank(token)
        if token[0] == '"':
            size = len(re.sub(r"\\(x[0-9a-fA-F]+|[0-7]{1,3}|.)", "x", token[1:-1]).encode())
            literals.append((match.start(), match.end(), size))
        return token[0] + blank(token[1:-1]) + token[-1]

    return TOKENS.sub(one, source), literals


class Section:
    def __init__(self, tag, start, line):
        self.tag, self.start, self.line = tag, start, line
        self.end = None
        self.banner = ""
        self.uses = set()


class Header:
    def __init__(self, source):
        self.source = source
        self.lines = source.split("\n")
        self.code, self.literals = strip(source)
        # Without preprocessor directives: what is left are declarations and functions.
        self.plain = re.sub(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", lambda m: blank(m.group(0)), self.code, flags=re.M)
        # Pragmas in the form of macros, alone on a line, belong to no declaration.
        self.plain = re.sub(r"^LLMGWI_BASE_SMALL_(BEGIN|END)$", lambda m: blank(m.group(0)), self.plain, flags=re.M)
        self.problems = []
        self.sections = self.find_sections()
        self.functions = []      # (line, lines, name, section)
        self.elsewhere = {}      # section: how many public functions it defines
        self.definitions = []    # (kind, name, offset)
        self.declared = set()    # everything that api declares

    def line_of(self, offset):
        return self.source.count("\n", 0, offset) + 1

    def problem(self, rule, offset, text):
        self.problems.append((self.line_of(offset), rule, text))

    def find_sections(self):
        found = []
        for match in re.finditer(r"^/\* >>(\w+)", self.source, re.M):
            found.append(Section(match.group(1), match.start(), self.line_of(match.start())))
        for number, section in enumerate(found):
            section.end = found[number + 1].start if number + 1 < len(found) else len(self.source)
            section.banner = self.banner_text(section)
        return found

    def banner_text(self, section):
        """The comment that starts at the banner, with directly following one-line comments."""
        rest = self.source[section.start:section.end]
        text, position = "", 0
        while True:
            match = re.compile(r"[ \t]*/\*(.*?)\*/[ \t]*\n?", re.S).match(rest, position)
            if not match or re.fullmatch(r"[\s\-=*]*", match.group(1)):
                break
            text += " " + match.group(1)
            position = match.end()
        return " ".join(text.split())

    def section_at(self, offset):
        for section in self.sections:
            if section.start <= offset < section.end:
                return section
        return None

    def tag_at(self, offset):
        section = self.section_at(offset)
        return section.tag if section else "api"


# ---- rules about sections ----

def field(banner, name):
    match = re.search(name + r":\s*(.*?)\s*(?=(?:purpose|uses|guarantees):|$)", banner, re.S)
    return match.group(1) if match else None


def check_banners(h):
    top = h.source[:h.sections[0].start] if h.sections else h.source
    contents = re.findall(r"^\s+>>(\w+)\s", top, re.M)
    tags = [section.tag for section in h.sections]
    if tags != contents:
        h.problem("banner", 0, "contents list: %s; sections: %s" % (" ".join(contents), " ".join(tags)))
    for number, section in enumerate(h.sections):
        for name in ("purpose", "uses", "guarantees"):
            if not field(section.banner, name):
                h.problem("banner", section.start, ">>%s does not say %s:" % (section.tag, name))
        above = tags[:number]
        if section.tag not in MAY_USE:
            h.problem("banner", section.start, ">>%s is not in MAY_USE of tests/lint.py" % section.tag)
            continue
        if section.tag in above:
            h.problem("banner", section.start, ">>%s is there twice" % section.tag)
        check_uses_line(h, section, above)


def check_uses_line(h, section, above):
    allowed = MAY_USE[section.tag]
    text = re.sub(r"\(.*?\)", "", field(section.banner, "uses") or "").strip(" .;")
    for word in re.split(r"\s*(?:,|;|\band\b)\s*", text):
        word = word.strip(" .").lower()
        if not word or word in OUTSIDE:
            continue
        if word.startswith("all above") and allowed is None:
            section.uses |= set(above)
        elif word not in MAY_USE:
            h.problem("banner", section.start, ">>%s uses: %s is no section" % (section.tag, word))
        elif allowed is not None and word not in allowed:
            h.problem("banner", section.start, ">>%s may not use %s" % (section.tag, word))
        elif word not in above:
            h.problem("banner", section.start, ">>%s uses %s, which is not above it" % (section.tag, word))
        else:
            section.uses.add(word)


def check_uses(h):
    for match in re.finditer(r"\bllmgwi_([a-z0-9]+)\w*", h.code):
        section = h.section_at(match.start())
        tag = section.tag if section else "api"
        used = match.group(1)
        if used in (tag, "base") or (section and used in section.uses):
            continue
        if used not in [s.tag for s in h.sections]:
            h.problem("name", match.start(), "%s: %s is no section" % (match.group(0), used))
        else:
            h.problem("uses", match.start(), ">>%s uses %s, but its banner does not list %s"
                      % (tag, match.group(0), used))


# ---- declarations and definitions at file scope ----

def match_bracket(text, start):
    """The offset after the bracket that closes the one at start."""
    depth = 0
    for match in re.compile(r"[(){}\[\]]").finditer(text, start):
        depth += 1 if match.group(0) in "({[" else -1
        if depth == 0:
            return match.end()
    return len(text)


def chunks(text):
    """The top-level declarations of text, as (start, end). extern "C" { } is transparent."""
    text = re.sub(r'extern\s+"[^"]*"\s*\{', lambda m: blank(m.group(0)), text)
    position = start = 0
    pattern = re.compile(r"[;({\[}=]")
    assigned = False
    while True:
        match = pattern.search(text, position)
        if not match:
            return
        mark = match.group(0)
        if mark == "}":                       # closes extern "C"
            position = start = match.end()
        elif mark == "=":
            assigned, position = True, match.end()
        elif mark in "([":
            position = match_bracket(text, match.start())
        elif mark == "{":
            position = match_bracket(text, match.start())
            before = text[start:match.start()].rstrip()
            if before.endswith(")") and not assigned:   # a function's body
                yield skip_space(text, start), position
                start = position
        else:
            yield skip_space(text, start), match.end()
            position = start = match.end()
            assigned = False


def skip_space(text, start):
    return start + len(text[start:]) - len(text[start:].lstrip())


def erase(text, opening):
    """text without what is inside its brackets of one kind."""
    out, position = "", 0
    while True:
        start = text.find(opening, position)
        if start < 0:
            return out + text[position:]
        end = match_bracket(text, start)
        out += text[position:start + 1] + text[end - 1:end]
        position = end


def names_in(chunk):
    """What one top-level declaration brings: a list of (kind, name, offset in chunk).
    Kinds: function, prototype, variable, type, constant."""
    found = []
    for match in re.finditer(r"\b(struct|union|enum)\s+(\w+)\s*\{", chunk):
        found.append(("type", match.group(2), match.start(2)))
    for match in re.finditer(r"\benum\b\s*\w*\s*\{", chunk):
        body_end = match_bracket(chunk, match.end() - 1)
        body = erase(chunk[match.end():body_end - 1], "(")
        for constant in re.finditer(r"(?:^|,)\s*([A-Za-z_]\w*)(?=\s*(?:,|=|$))", body):
            found.append(("constant", constant.group(1), match.end()))
    is_function = chunk.rstrip().endswith("}") and "(" in chunk
    flat = erase(chunk, "{")
    # Attribute macros before or after it, as LLMGWI_BASE_PRINTF(3, 4).
    flat = re.sub(r"\bLLMGWI_[A-Z0-9_]+\s*\([^()]*\)(?=\s*\w)|__attribute__\s*\(\(.*?\)\)\s*", "", flat, flags=re.S)
    if is_function:
        flat = flat[:flat.rindex("{")]
    if flat.lstrip().startswith("typedef"):
        match = re.search(r"\(\s*\*\s*(\w+)\s*\)", flat) or re.search(r"(\w+)\s*(?:\[[^\]]*\]\s*)*;", flat)
        if match and match.group(1) not in [name for _, name, _ in found]:
            found.append(("type", match.group(1), 0))
        return found
    declarator = flat.split("=")[0]
    pointer = re.search(r"\(\s*\*\s*(?:const\s+)?(\w+)\s*(?:\[[^\]]*\]\s*)*\)", declarator)
    call = re.search(r"\b(\w+)\s*\(", declarator)
    if pointer and (not call or pointer.start() <= call.end()):
        found.append(("variable", pointer.group(1), 0))
    elif call and (is_function or "=" not in flat):
        found.append(("function" if is_function else "prototype", call.group(1), 0))
    else:
        for part in erase(erase(flat, "["), "(").rstrip().rstrip(";").split(","):
            match = re.search(r"(\w+)\s*(?:\[\]\s*)*$", part.split("=")[0].rstrip())
            words = re.findall(r"\w+", part.split("=")[0])
            if match and (len(words) > 1 or "," in flat) and not re.search(r"\}\s*$", part.split("=")[0]):
                if words[:-1] not in (["struct"], ["union"], ["enum"]):
                    found.append(("variable", match.group(1), 0))
    return found


def read_definitions(h):
    for start, end in chunks(h.plain):
        tag = h.tag_at(start)
        for kind, name, offset in names_in(h.plain[start:end]):
            h.definitions.append((kind, name, start + offset))
            if tag == "api":
                h.declared.add(name)
            if kind == "function":
                lines = h.plain.count("\n", start, end) + 1
                h.functions.append((h.line_of(start), lines, name, tag))
    for match in re.finditer(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", h.code, re.M):
        h.definitions.append(("macro", match.group(1), match.start(1)))
        if h.tag_at(match.start()) == "api":
            h.declared.add(match.group(1))
    # typedef struct llmgw llmgw; and struct llmgw_event forward: names the api has announced.
    if h.sections:
        api = h.plain[h.sections[0].start:h.sections[0].end]
        h.declared |= set(re.findall(r"\bstruct\s+(llmgw\w*)", api))


FEATURE_MACROS = ("_DEFAULT_SOURCE", "_GNU_SOURCE", "_DARWIN_C_SOURCE", "_POSIX_C_SOURCE", "WIN32_LEAN_AND_MEAN",
                  "NOMINMAX", "XXH_INLINE_ALL", "XXH_STATIC_LINKING_ONLY")


def check_names(h):
    for kind, name, offset in h.definitions:
        tag = h.tag_at(offset)
        if kind == "macro" and name in FEATURE_MACROS and tag in ("api", "base"):
            continue
        if tag == "api":
            good = re.match(r"(llmgwi?|LLMGWI?)(_|$)", name)
        elif re.match(r"(llmgw|LLMGW)(_|$)", name):
            good = name in h.declared
            if good and kind == "function":
                h.elsewhere[tag] = h.elsewhere.get(tag, 0) + 1
        elif kind in ("macro", "constant"):
            good = name.startswith("LLMGWI_") or name.startswith("llmgwi_%s_" % tag)
        else:
            good = name.startswith("llmgwi_%s_" % tag) or name == "llmgwi_" + tag
        if not good:
            h.problem("name", offset, "%s %s defined in >>%s" % (kind, name, tag))


def check_lengths(h):
    for line, lines, name, _ in h.functions:
        if lines > MAX_FUNCTION_LINES:
            h.problems.append((line, "length", "%s has %d lines" % (name, lines)))


# ---- rules about text ----

def check_directives(h):
    for match in re.finditer(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|include)\b([^\n]*)", h.code, re.M):
        tag = h.tag_at(match.start())
        word = match.group(1)
        if word == "include":
            if tag not in INCLUDE_SECTIONS:
                h.problem("include", match.start(), "#include in >>%s" % tag)
        elif tag not in IF_SECTIONS and not is_guard(h, match):
            h.problem("if", match.start(), "#%s%s in >>%s" % (word, match.group(2).rstrip(), tag))


def is_guard(h, match):
    """The implementation's own guards, and the #ifdef __cplusplus around one brace of extern "C"."""
    if re.search(r"\bLLMGW_IMPLEMENTATION\b|\bLLMGWI_IMPLEMENTED\b", match.group(2)):
        return True
    return re.match(r'\s*(?:\}|extern "\s*C?\s*" \{)\s*\n[ \t]*#[ \t]*endif', h.code[match.end():]) is not None \
        and "__cplusplus" in match.group(2)


def check_literals(h):
    start, total, last = 0, 0, None
    for begin, end, size in h.literals + [(len(h.code), len(h.code), 0)]:
        gap = h.code[last:begin] if last is not None else "x"
        if gap.replace("\\\n", "").strip():
            if total > MAX_LITERAL_BYTES:
                h.problem("literal", start, "a string literal of %d bytes" % total)
            start, total = begin, 0
        total += size
        last = end


def check_cpp(h):
    for match in re.finditer(r"[{,]\s*\.\s*[A-Za-z_]\w*\s*(?:=(?!=)|\[|\.)", h.code):
        h.problem("c++", match.start(), "a designated initialiser")
    for match in re.finditer(r"[{,]\s*\[[^\]]*\]\s*=(?!=)", h.code):
        h.problem("c++", match.start(), "an array designator")
    for match in re.finditer(r"\)\s*\{", h.code):
        opening = find_opening(h.code, match.start())
        before = re.search(r"(\w+|\S)\s*$", h.code[max(0, opening - 300):opening])
        word = before.group(1) if before else ""
        if word == "return" or not re.fullmatch(r"\w+|\)", word):
            h.problem("c++", opening, "a compound literal")


def find_opening(text, closing):
    depth = 0
    for position in range(closing, -1, -1):
        if text[position] == ")":
            depth += 1
        elif text[position] == "(":
            depth -= 1
            if depth == 0:
                return position
    return 0


def check_comments(h):
    if not h.sections:
        return
    api = h.sections[0]
    for match in re.finditer(r"^LLMGW_API\b[^;]*;", h.plain[api.start:api.end], re.M):
        begin, end = api.start + match.start(), api.start + match.end()
        if not is_commented(h, begin, end):
            name = re.search(r"(\w+)\s*\(", match.group(0))
            h.problem("comment", begin, "%s has no comment" % (name.group(1) if name else "a declaration"))


def is_commented(h, begin, end):
    rest = h.source[end:h.source.find("\n", end)]
    if rest.strip().startswith("/*"):
        return True
    line = h.line_of(begin) - 2              # index of the line above
    plain = h.plain.split("\n")
    while line >= 0:
        above = h.lines[line].strip()
        if above.endswith("*/") and not plain[line].strip():
            return not re.fullmatch(r"/\*[\s\-=]*\*/", above)
        if not above or above.startswith("#"):
            return False
        line -= 1                            # a declaration of the same group
    return False


def check_libraries(h):
    for pattern, home in ((r"\b(?:curl_\w+|CURL\w*)", "http"), (r"\b(?:mdb_\w+|MDB_\w+)", "store"),
                          (OS_CALLS, "base")):
        for match in re.finditer(pattern, h.code):
            tag = h.tag_at(match.start())
            start = h.code.rfind("\n", 0, match.start()) + 1
            if tag == home or h.code[start:].lstrip().startswith("#include"):
                continue
            rule = "os" if home == "base" else "curl"
            h.problem(rule, match.start(), "%s in >>%s; it belongs in >>%s"
                      % (match.group(0).rstrip("( "), tag, home))


def lint(source):
    h = Header(source)
    read_definitions(h)
    for check in (check_banners, check_uses, check_names, check_lengths, check_directives, check_literals,
                  check_cpp, check_comments, check_libraries):
        check(h)
    return h


# ---- output ----

def report(path):
    with open(path, encoding="utf-8") as file:
        h = lint(file.read())
    for line, rule, text in sorted(set(h.problems)):
        print("%s:%d: [%s] %s" % (path, line, rule, text))
    lengths = sorted(lines for _, lines, _, _ in h.functions) or [0]
    longest = max(h.functions, key=lambda f: f[1], default=(0, 0, "none", ""))
    print("%d lines, %d sections, %d functions; lines of a function: median %d, longest %d (%s), under 25: %d %%"
          % (len(h.lines) - 1, len(h.sections), len(h.functions), lengths[len(lengths) // 2], longest[1],
             longest[2], 100 * sum(1 for n in lengths if n < 25) // len(lengths)))
    print("public functions are defined in: "
          + (", ".join("%s (%d)" % item for item in sorted(h.elsewhere.items())) or "no section"))
    print("%d problems" % len(set(h.problems)))
    return 1 if h.problems else 0


# ---- self-test ----

GOOD = '''/* a header
   CONTENTS
       >>api   x
       >>base  x
       >>json  x
       >>text  x
*/
/* >>api  purpose: p. uses: nothing guarantees: g */
#ifndef LLMGW_H
#define LLMGW_H
#include <stddef.h>
typedef struct llmgw llmgw;
typedef int (*llmgw_fn)(int a, void *b);
/* Says what it does. */
LLMGW_API int llmgw_one(llmgw *gw);
LLMGW_API int llmgw_two(llmgw *gw);
LLMGW_API int llmgw_three(llmgw *gw); /* its own comment */
#endif
#ifdef LLMGW_IMPLEMENTATION
#ifdef __cplusplus
extern "C" {
#endif
/* ---------------------------- */
/* >>base  purpose: p           */
/*         uses: libc, OS guarantees: g  */
/* ---------------------------- */
#include <stdlib.h>
#define LLMGWI_MIN(a, b) ((a) < (b) ? (a) : (b))
typedef struct llmgwi_base_pair { int a; int b[4]; } llmgwi_base_pair;
LLMGWI_PRINTF(1, 2)
static void *llmgwi_base_get(size_t n) { return malloc(n); }
/* >>text
   purpose: p
   uses: nothing
   guarantees: g */
static const char llmgwi_text_table[] = {'{', '"', ')'};
static int (*llmgwi_text_hook)(int) = NULL;
static int llmgwi_text_a = 1, llmgwi_text_b[2] = {1, 2};
enum { LLMGWI_TEXT_A = 1, LLMGWI_TEXT_B };
static int llmgwi_text_len(const char *s);
/* >>json  purpose: p uses: text guarantees: g */
static int llmgwi_json_read(const char *s) {
    int a[2] = {1, 2};
    if ((a[0]) == 1) { return 0; }
    return llmgwi_text_len(s) /* curl_easy_init */ + *"CURL malloc(";
}
LLMGW_API int llmgw_one(llmgw *gw) { return gw ? llmgwi_json_read("x") : 0; }
#ifdef __cplusplus
}
#endif
#endif /* LLMGW_IMPLEMENTATION */
'''.replace("       >>json  x\n       >>text  x\n", "       >>text  x\n       >>json  x\n")

END = "LLMGW_API int llmgw_one(llmgw *gw) {"

# rule, what to replace in GOOD, by what, and a part of the message
BAD = [
    ("banner", "/* >>json  purpose: p uses", "/* >>json  uses", "purpose"),
    ("banner", "uses: text guarantees: g */\nstatic int llmgwi_json", "uses: text */\nstatic int llmgwi_json", "guarantees"),
    ("banner", "       >>json  x\n", "", "contents"),
    ("banner", "uses: text guarantees", "uses: frame guarantees", "may not use frame"),
    ("banner", "   uses: nothing\n", "   uses: json\n", "may not use json"),
    ("banner", "uses: text guarantees", "uses: words guarantees", "no section"),
    ("banner", ">>json  purpose", ">>other  purpose", "MAY_USE"),
    ("uses", "uses: text guarantees", "uses: nothing guarantees", "does not list text"),
    ("uses", "{'{', '\"', ')'};", "{'{', '\"', ')'};\n#define LLMGWI_X llmgwi_json_read(0)", "does not list json"),
    ("name", "llmgwi_base_get(size_t", "base_get(size_t", "function base_get"),
    ("name", "llmgwi_text_table[", "llmgwi_json_table[", "variable llmgwi_json_table"),
    ("name", "LLMGWI_MIN(a", "MIN(a", "macro MIN"),
    ("name", "llmgwi_text_hook)", "hook)", "variable hook"),
    ("name", "llmgwi_text_b[2]", "second[2]", "variable second"),
    ("name", "LLMGWI_TEXT_B", "TEXT_B", "constant TEXT_B"),
    ("name", "llmgwi_base_pair {", "pair {", "type pair"),
    ("name", "} llmgwi_base_pair;", "} pair_t;", "type pair_t"),
    ("name", END, "int llmgw_four(void) { return 1; }\n" + END, "function llmgw_four"),
    ("name", "llmgwi_text_len(s) ", "llmgwi_words_len(s) ", "no section"),
    ("length", "return 0; }\n", "return 0; }\n" + "    a[0]++;\n" * 70, "lines"),
    ("if", END, "#ifdef NDEBUG\n#endif\n" + END, "#ifdef NDEBUG"),
    ("if", END, "#if 1\n#elif 2\n#endif\n" + END, "#elif"),
    ("include", END, "#include <stdio.h>\n" + END, "#include"),
    ("literal", '"CURL malloc("', '"%s"\n    "%s"' % ("a" * 3000, "b" * 1096), "4096"),
    ("c++", "{1, 2};\n    if", "{1, 2}; llmgwi_base_pair p = {.a = 1};\n    if", "designated"),
    ("c++", "{1, 2};\n    if", "{[0] = 2};\n    if", "array designator"),
    ("c++", "return 0; }", "return (llmgwi_base_pair){1}.a; }", "compound"),
    ("c++", "{1, 2};\n    if", "{1, 2}; llmgwi_base_pair p = (llmgwi_base_pair){1};\n    if", "compound"),
    ("comment", "/* Says what it does. */\n", "", "llmgw_one has no comment"),
    ("comment", "; /* its own comment */", ";\n\nLLMGW_API void llmgw_five(void);", "llmgw_five"),
    ("curl", "return 0; }", "return curl_easy_init() != 0; }", "curl_easy_init"),
    ("curl", "return 0; }", "return CURLE_OK; }", "CURLE_OK"),
    ("curl", "return 0; }", "return mdb_get(); }", "mdb_get"),
    ("os", "return 0; }", "free(a); }", "free"),
]


def self_test():
    failed = 0
    good = lint(GOOD)
    for line, rule, text in good.problems:
        failed += 1
        print("the good input: line %d: [%s] %s" % (line, rule, text))
    names = sorted(name for _, _, name, _ in good.functions)
    if names != ["llmgw_one", "llmgwi_base_get", "llmgwi_json_read"]:
        failed += 1
        print("the good input: functions found: %s" % names)
    for rule, old, new, message in BAD:
        assert old in GOOD, old
        problems = lint(GOOD.replace(old, new, 1)).problems
        if not any(r == rule and message in text for _, r, text in problems):
            failed += 1
            print("[%s] did not fire for %r: %s" % (rule, new[:60], problems))
    longest = GOOD.replace("return 0; }\n", "return 0; }\n" + "    a[0]++;\n" * 65, 1)
    if lint(longest).problems:
        failed += 1
        print("a function of 70 lines was rejected: %s" % lint(longest).problems)
    print("lint self-test: %d inputs, %d wrong" % (len(BAD) + 2, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(self_test())
    sys.exit(report(sys.argv[1] if len(sys.argv) > 1 else "llmgw.h"))
