"""Runs a page: `python page_runner.py PAGE.md`, in an empty directory. The status is 1 where something is not as the page says.

A block of Python or shell that begins with a comment such as `# fill.py` is that file; a shell block without one is for the
reader alone. The other Python blocks of a page are one program, which goes on from block to block. Of a console block the lines
with `$` are commands; what stands below a command is what it prints, where `...` stands for any text.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

BLOCK = re.compile(r"^```(python|sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:#!.*\n)?# (\w+\.(?:py|sh))\b.*\n")
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def main(page: str) -> None:
    text = Path(page).read_text(encoding="utf-8")
    os.environ["TMPDIR"] = os.getcwd()
    program = sys.modules["page"] = ModuleType("page")  # forked workers find its functions
    sys.path.insert(0, "")
    for block in BLOCK.finditer(text):
        kind, source = block.groups()
        named = FILE.match(source)
        if named:
            Path(named[1]).write_text(source, encoding="utf-8")
        elif kind == "python":
            first = text.count("\n", 0, block.start(2))
            exec(compile("\n" * first + source, page, "exec"), program.__dict__)
        elif kind == "console":
            for command, output in COMMAND.findall(source):
                run(command, output)


def run(command: str, expected: str) -> None:
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    printed = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
    parts = ["\n".join(line.rstrip() for line in part.split("\n")) for part in expected.strip().split("...")]
    if done.returncode or (expected and not re.fullmatch(".*?".join(map(re.escape, parts)), printed, re.DOTALL)):
        sys.exit(f"$ {command}\n{printed}\nstatus {done.returncode}, but expected:\n{expected}")


if __name__ == "__main__":
    main(sys.argv[1])
