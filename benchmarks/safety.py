"""`python -m benchmarks.safety`: races, kills and readers, the same for every library; one table of what was measured.

In come arguments; out go a table and files. A library that loses, raises, crashes or hangs is a result. Ends with 0 when it ran to
the end; with 1 when Zarrant itself lost or tore something or failed somewhere; with 2 for arguments that mean nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import kills, races, readings
from benchmarks.__main__ import RESULTS, say, surroundings
from benchmarks.arguments import positive, program
from benchmarks.crew import set_out
from benchmarks.ground import Finding, Ground, Test
from benchmarks.peers import ADAPTERS, OURS, find_peers
from benchmarks.peers.base import Settings
from benchmarks.report import line, noted

Findings = dict[str, dict[str, Finding]]
"""By test and by library."""


def libraries(text: str) -> list[str]:
    """Names of ADAPTERS, or adapters of one's own as "module:Class"."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in ADAPTERS and ":" not in name]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(ADAPTERS)}, or module:Class")
    return chosen


def duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, as in 2.5")
    return seconds


def parser() -> argparse.ArgumentParser:
    given = program("benchmarks.safety", "Races, kills and readers, for Zarr libraries.", Path(tempfile.gettempdir()))
    given.add_argument("--peers", type=libraries, default=list(ADAPTERS), help=f"of {', '.join(ADAPTERS)}, or module:Class")
    given.add_argument("--tests", help="comma-separated beginnings of names; see --list (default: all)")
    given.add_argument("--seconds", type=duration, default=2.0, help="of each race and each reading (default %(default)s)")
    given.add_argument("--kills", type=positive, default=40, help="of each kind, for each library (default %(default)s)")
    given.add_argument("--processes", type=positive, default=8, help="or threads that race (default %(default)s)")
    given.add_argument("--timeout", type=duration, default=30.0, help="after which a worker hangs (default %(default)s s)")
    given.add_argument("--cell", type=positive, default=races.CELL, help="elements of a subchunk of the largest shard")
    given.add_argument("--sync", action="store_true", help="Zarrant and TensorStore sync files; the others cannot")
    given.add_argument("--results", type=Path, default=RESULTS, help="directory of safety.md and safety.json")
    given.add_argument("--list", action="store_true", help="name the tests and end")
    return given


def tests_of(options: argparse.Namespace, readers: list[str]) -> list[Test]:
    every = [*races.tests(options.processes, options.cell), *kills.tests(), *readings.tests(readers)]
    if options.tests is None:
        return every
    beginnings = tuple(part.strip() for part in options.tests.split(",") if part.strip())
    return [test for test in every if test.name.startswith(beginnings)]


def run(tests: Sequence[Test], ground: Ground, peers: Sequence[str]) -> Findings:
    """Every test with every library, in turn."""
    found: Findings = {}
    for test in tests:
        say(test.title)
        found[test.name] = {peer: test.run(ground, peer) for peer in peers}
    return found


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(tests: Sequence[Test], found: Findings, peers: Sequence[str], facts: Mapping[str, Any]) -> str:
    """Tests by libraries; a mark leads to the errors of a test, as far as they are the commonest three."""
    lines = [line(["test", *(heading(peer) for peer in peers)]), line(["---", *["---:"] * len(peers)])]
    notes: list[str] = []
    for test in tests:
        marks = [_mark(test, peer, found[test.name][peer], notes) for peer in peers]
        lines.append(line([f"**{test.title}**", *marks]))
        for label, text in test.rows.items():
            lines.append(line([label, *(_text(text, found[test.name][peer]) for peer in peers)]))
    lines += ["", *(f"[{number}] {note}" for number, note in enumerate(notes, 1)), *([""] if notes else [])]
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in facts.items())]) + "\n"


def heading(peer: str) -> str:
    return peer.rpartition(":")[2]


def _text(text: Any, finding: Finding) -> str:
    return "–" if finding.note else str(text(finding.counts))


def _mark(test: Test, peer: str, finding: Finding, notes: list[str]) -> str:
    what = finding.note or "; ".join(f"{count} × {text}" for text, count in finding.troubles.most_common(3))
    return noted(f"{heading(peer)}, {test.title}: {what}", notes) if what else ""


def write_json(path: Path, found: Findings, facts: Mapping[str, Any]) -> None:
    """Every count and every error."""
    findings = {test: {peer: finding.as_json() for peer, finding in of.items()} for test, of in found.items()}
    path.write_text(json.dumps({"facts": dict(facts), "tests": findings}, indent=2), encoding="utf-8")


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    installed, missing = find_peers(list(dict.fromkeys([*options.peers, *ADAPTERS])), Settings(1, options.sync))
    readers = [name for name in ADAPTERS if name in installed]
    tests = tests_of(options, readers)
    if options.list:
        print("\n".join(f"{test.name:16} {test.title}" for test in tests))
        return 0
    peers = [name for name in options.peers if name in installed]
    for reason in missing.values():
        say(f"skipped: {reason}")
    directory = Path(tempfile.mkdtemp(prefix="zarrant-safety-", dir=options.dir))
    facts = surroundings({name: installed[name] for name in peers}) | {
        "seconds of a race or reading": options.seconds,
        "synced files": "zarrant and tensorstore" if options.sync else "none",
        "not installed": ", ".join(missing) or "none",
    }
    try:
        with Ground(set_out(), directory, readers, options) as ground:
            found = run(tests, ground, peers)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    options.results.mkdir(parents=True, exist_ok=True)
    text = table(tests, found, peers, facts)
    (options.results / "safety.md").write_text(text, encoding="utf-8")
    write_json(options.results / "safety.json", found, facts)
    print(text)
    return int(any(finding.harm for of in found.values() for peer, finding in of.items() if peer == OURS))


if __name__ == "__main__":
    sys.exit(main())
