"""`python -m benchmarks`: run the workloads, print the table, keep table, numbers and plot in a directory.

In come arguments; out go files and a table. Ends with 0 when it ran to the end, whatever the times; with 1 when Zarrant itself was
wrong or failed somewhere; with 2 for arguments that mean nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import arrays, limits, report
from benchmarks.arguments import MEMORY, names, positive, program, size
from benchmarks.growth import Curve, measure_growth
from benchmarks.jobs import Bench
from benchmarks.measure import Row, measure
from benchmarks.peers import COLUMNS, OURS, find_peers
from benchmarks.peers.base import Peer, Settings
from benchmarks.workloads import BY_NAME, WORKLOADS
from zarrant import kernels
from zarrant.run.pool import available_cpus

RESULTS = Path(__file__).parent / "results"
SCRIPTS = {
    "crops": ["--crops", "200", "--side", "1024"],
    "heartbeat": ["--tasks", "64", "--seconds", "0.5", "--rounds", "3"],
    "direct": ["--size", "32MiB", "--rounds", "3"],
    "tasks": ["--crops", "400", "--rounds", "2"],
    "listings": ["--arrays", "300", "--rounds", "2"],
    "frames": ["--rounds", "3"],
    "sparse": ["--chunks", "40000", "--rounds", "1"],
    "rust": ["--size", "32MiB"],
    "profiles": ["--size", "32MiB", "--seconds", "0.1"],
    "remote": ["--rounds", "2"],
}
"""Benchmarks with tables of their own, run in a process each where they are there; and how, with --quick."""
FULL, QUICK = "256MiB", "32MiB"
"""Of the array: large enough for several objects of 32 MiB in flight, small enough for every run to be checked."""


def parser() -> argparse.ArgumentParser:
    given = program("benchmarks", "Time Zarrant beside other Zarr libraries.")
    given.add_argument("--size", type=size, help=f"of the array (default {FULL}; with --quick {QUICK})")
    given.add_argument("--workloads", type=names(list(BY_NAME)), help="comma-separated (default: all); see --list")
    given.add_argument("--peers", type=names(list(COLUMNS)), default=list(COLUMNS), help=f"of {', '.join(COLUMNS)}")
    given.add_argument("--repeats", type=positive, default=3, help="rounds (default %(default)s)")
    given.add_argument("--threads", type=positive, default=available_cpus(), help="for every library (default: the CPUs)")
    given.add_argument("--sync", action="store_true", help="Zarrant and TensorStore sync files; the others cannot")
    given.add_argument("--results", type=Path, default=RESULTS, help="directory of table.md and, by default, of the next two")
    given.add_argument("--json", type=Path, help="file for every single time")
    given.add_argument("--plot", type=Path, help="file for the plot, an SVG")
    given.add_argument("--quick", action="store_true", help="small arrays and fewer calls: a few minutes on two cores")
    given.add_argument("--no-growth", dest="growth", action="store_false", help="without growth curves")
    given.add_argument("--scripts", type=names(list(SCRIPTS)), help=f"of {', '.join(SCRIPTS)}; all, if no workloads were named")
    given.add_argument("--docs", type=Path, help="write the page and the plots of the documentation below this directory")
    given.add_argument("--list", action="store_true", help="name the workloads and end")
    return given


def defaults(options: argparse.Namespace) -> argparse.Namespace:
    """What was not given: everything, or with `--quick` everything smaller."""
    if options.size is None:
        options.size = size(QUICK if options.quick else FULL)
    if options.scripts is None:
        options.scripts = [] if options.workloads is not None else list(SCRIPTS)
    options.growth = options.growth and options.workloads is None
    options.workloads = list(BY_NAME) if options.workloads is None else options.workloads
    return options


def run_scripts(options: argparse.Namespace) -> dict[str, str]:
    """What the other benchmarks print, by name; those that are not there, or lack something, say so."""
    found = {}
    for name in options.scripts:
        if find_spec(f"benchmarks.{name}") is None:
            continue
        say(name)
        command = [sys.executable, "-m", f"benchmarks.{name}", *(SCRIPTS[name] if options.quick else [])]
        if name == "profiles" and options.docs is not None:
            command += ["--docs", str(options.docs)]  # they have a page of their own
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300 if options.quick else 1800, check=False)
            found[name] = (
                done.stdout if done.returncode == 0 else f"{done.stdout}\nended with {done.returncode}: {_last(done.stderr)}\n"
            )
        except subprocess.TimeoutExpired:
            found[name] = "took too long\n"
    return found


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def surroundings(peers: dict[str, Peer]) -> dict[str, Any]:
    """What was measured with; nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    reference = sorted(name for name, kind in kernels.active().items() if kind == "reference")
    return {
        "versions": ", ".join(f"{name} {peer.version}" for name, peer in peers.items()) + f", numpy {np.__version__}",
        "kernels": "all compiled" if not reference else f"not compiled: {', '.join(reference)}",
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "machine": f"{_processor()}, {available_cpus()} CPUs for this process, {memory:.0f} GiB of memory",
        "load before": f"{os.getloadavg()[0]:.1f} on {available_cpus()} CPUs" if hasattr(os, "getloadavg") else "unknown",
        "when": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    """The kind of processor, where the system tells."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.machine()


def facts_of(options: argparse.Namespace, peers: dict[str, Peer], shape: tuple[int, ...]) -> dict[str, Any]:
    """What a reader has to know."""
    return {
        "array": f"{' × '.join(map(str, shape))} uint16, objects {arrays.object_edge(shape)}³",
        "rounds": options.repeats,
        "threads": options.threads,
        "synced files": "zarrant and tensorstore" if options.sync else "none",
        "tmpfs": str(options.dir).startswith(str(MEMORY)),
        **surroundings(peers),
    }


class Measured(NamedTuple):
    """What came out."""

    rows: list[Row]
    facts: dict[str, Any]
    peers: list[str]
    curves: list[Curve]


def run(options: argparse.Namespace, directory: Path) -> Measured:
    """Measure everything in a directory of its own."""
    peers, missing = find_peers(options.peers, Settings(options.threads, options.sync))
    for reason in missing.values():
        say(f"skipped: {reason}")
    shape = arrays.shape_of(options.size)
    facts = facts_of(options, peers, shape) | {"not installed": ", ".join(missing) or "none"}
    data = arrays.values(shape)
    able = {name: peer for name, peer in peers.items() if not getattr(peer, "streams_only", False)}
    referees = sorted((peer for peer in able.values() if peer.subchunk_limit is None), key=lambda peer: peer.name == OURS)
    bench = Bench(directory, data, np.empty_like(data), options.threads, referees)
    limits.warm(bench, len(peers) + 1)
    rows = list(measure([BY_NAME[name] for name in options.workloads], peers, bench, options.repeats, say))
    side = 128 if options.quick else 256
    curves = measure_growth(able, directory, side, options.repeats, say) if options.growth else []
    return Measured(rows, facts, list(peers), curves)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = defaults(parser().parse_args(arguments))
    if options.list:
        print("\n".join(f"{workload.name:18} {workload.title}" for workload in WORKLOADS))
        return 0
    directory = Path(tempfile.mkdtemp(prefix="zarrant-bench-", dir=options.dir))
    try:
        found = run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(table := keep(options, found))
    for name, text in run_scripts(options).items():
        part = report.section(name, text)
        print(part)
        table += "" if name == "profiles" and options.docs is not None else part
    (options.results / "table.md").write_text(table, encoding="utf-8")
    if options.docs is not None:
        report.write_docs(options.docs, table, found.rows, found.peers, found.curves)
    return int(any(row.cells[OURS].note for row in found.rows if OURS in row.cells))


def keep(options: argparse.Namespace, found: Measured) -> str:
    """The table; it and the plots are written where they were asked for."""
    table = report.markdown(found.rows, found.peers, found.facts)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "table.md").write_text(table, encoding="utf-8")
    report.write_json(options.json or options.results / "results.json", found.rows, found.facts, found.curves)
    if hindrance := report.write_plot(options.plot or options.results / "results.svg", found.rows, found.peers):
        say(hindrance)
    report.write_curves(options.results, found.curves)
    return table


if __name__ == "__main__":
    sys.exit(main())
