#!/usr/bin/env python3
"""Looks whether every test and item that a document names exists.

A document names one as `file.rs::test`, and further ones of the same file as `test` right after it. Its file is the end
of a path in the repository.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`([\w/.-]+\.rs)::(\w+)`((?:,? (?:and )?`[a-z0-9]+_\w+`)*)")


def main():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = listed.stdout.split()
    wrong = []
    count = 0
    for document in (f for f in files if f.endswith(".md")):
        for number, line in enumerate((ROOT / document).read_text().splitlines(), 1):
            for file, first, more in NAMED.findall(line):
                at = [f for f in files if f == file or f.endswith("/" + file)]
                text = "".join((ROOT / f).read_text() for f in at)
                for name in [first, *re.findall(r"`(\w+)`", more)]:
                    count += 1
                    if not re.search(rf"\b(fn|const|struct|enum|mod) {name}\b", text):
                        wrong.append(f"{document}:{number}: {file} has no {name}")
    print("\n".join(wrong) if wrong else f"{count} names in documents are right")
    sys.exit(1 if wrong else 0)


main()
