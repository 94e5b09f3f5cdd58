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
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arrays, limits, report
from benchmarks.jobs import Bench
from benchmarks.measure import Row, measure
from benchmarks.peers import ADAPTERS, OURS, find_peers
from benchmarks.peers.base import Peer, Settings
from benchmarks.workloads import BY_NAME, WORKLOADS
from zarrant import kernels
from zarrant.run.pool import available_cpus

RESULTS = Path(__file__).parent / "results"
UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes, as in 256MiB")
    return int(match[1]) * UNITS[match[2].lower()]


def names(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return chosen

    return parse


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return int(text)


def parser() -> argparse.ArgumentParser:
    fast = Path("/dev/shm")
    given = argparse.ArgumentParser(prog="python -m benchmarks", description="Time Zarrant beside other Zarr libraries.")
    given.add_argument("--size", type=size, default="1GiB", help="of the array (default %(default)s)")
    given.add_argument("--workloads", type=names(list(BY_NAME)), default=list(BY_NAME), help="comma-separated; see --list")
    given.add_argument("--peers", type=names(list(ADAPTERS)), default=list(ADAPTERS), help=f"of {', '.join(ADAPTERS)}")
    given.add_argument("--repeats", type=positive, default=3, help="rounds (default %(default)s)")
    given.add_argument("--threads", type=positive, default=available_cpus(), help="for every library (default: the CPUs)")
    given.add_argument("--dir", type=Path, default=fast if fast.is_dir() else Path(tempfile.gettempdir()), help="where arrays go")
    given.add_argument("--sync", action="store_true", help="Zarrant and TensorStore sync files; the others cannot")
    given.add_argument("--results", type=Path, default=RESULTS, help="directory of table.md and, by default, of the next two")
    given.add_argument("--json", type=Path, help="file for every single time")
    given.add_argument("--plot", type=Path, help="file for the plot, where matplotlib is installed")
    given.add_argument("--list", action="store_true", help="name the workloads and end")
    return given


def surroundings(peers: dict[str, Peer]) -> dict[str, Any]:
    """What was measured with; nothing that names the machine."""
    reference = sorted(name for name, kind in kernels.active().items() if kind == "reference")
    return {
        "versions": ", ".join(f"{name} {peer.version}" for name, peer in peers.items()) + f", numpy {np.__version__}",
        "kernels": "all compiled" if not reference else f"not compiled: {', '.join(reference)}",
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.1f} on {available_cpus()} CPUs" if hasattr(os, "getloadavg") else "unknown",
        "when": time.strftime("%Y-%m-%d"),
    }


def facts_of(options: argparse.Namespace, peers: dict[str, Peer], shape: tuple[int, ...]) -> dict[str, Any]:
    """What a reader has to know."""
    return {
        "array": f"{' × '.join(map(str, shape))} uint16, objects {arrays.object_edge(shape)}³",
        "rounds": options.repeats,
        "threads": options.threads,
        "synced files": "zarrant and tensorstore" if options.sync else "none",
        "tmpfs": str(options.dir).startswith("/dev/shm"),
        **surroundings(peers),
    }


def run(options: argparse.Namespace, directory: Path) -> tuple[list[Row], dict[str, Any], list[str]]:
    """Measure everything in a directory of its own."""
    peers, missing = find_peers(options.peers, Settings(options.threads, options.sync))
    for reason in missing.values():
        say(f"skipped: {reason}")
    shape = arrays.shape_of(options.size)
    facts = facts_of(options, peers, shape) | {"not installed": ", ".join(missing) or "none"}
    data = arrays.values(shape)
    referees = sorted((peer for peer in peers.values() if peer.subchunk_limit is None), key=lambda peer: peer.name == OURS)
    bench = Bench(directory, data, np.empty_like(data), options.threads, referees)
    limits.warm(bench, len(peers) + 1)
    rows = list(measure([BY_NAME[name] for name in options.workloads], peers, bench, options.repeats, say))
    return rows, facts, list(peers)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{workload.name:18} {workload.title}" for workload in WORKLOADS))
        return 0
    directory = Path(tempfile.mkdtemp(prefix="zarrant-bench-", dir=options.dir))
    try:
        rows, facts, peers = run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    table = report.markdown(rows, peers, facts)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "table.md").write_text(table, encoding="utf-8")
    report.write_json(options.json or options.results / "results.json", rows, facts)
    if hindrance := report.write_plot(options.plot or options.results / "results.png", rows, peers):
        say(hindrance)
    print(table)
    return int(any(row.cells[OURS].note for row in rows if OURS in row.cells))


if __name__ == "__main__":
    sys.exit(main())
