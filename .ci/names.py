#!/usr/bin/env python3
"""Looks whether every test and item that a document names exists.

A document names one as `file.rs::test`, and further ones of the same file as `test` right after it. Its file is the end
of a path in the repository.
"""

import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`([\w/.-]+\.rs)::(\w+)`((?:,? (?:and )?`[a-z0-9]+_\w+`)*)")


def main():
    files = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in ("target", "found", "artifacts") and not f.startswith(".")]
        here = pathlib.Path(folder).relative_to(ROOT)
        files += [(here / name).as_posix() for name in names if name.endswith((".rs", ".md"))]
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
