"""The ground on which libraries are tested: where, for how long, who reads what another wrote.

What a test finds about one library is a `Finding`: counts, the texts of errors, and how many things a library that keeps its
updates apart would not have done. A library that cannot do the test has a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import arrays
from benchmarks.crew import Worker
from benchmarks.hands import referee
from benchmarks.peers.base import Settings

PREFERRED = ("tensorstore", "zarrs-python", "zarrista", "zarrant", "zarr-python")
"""Who reads what others wrote: another library, the fastest first."""


class Unreadable(Exception):
    """The referee could not read an array."""


@dataclass
class Finding:
    """What one library did in one test."""

    counts: dict[str, Any] = field(default_factory=dict)
    troubles: Counter[str] = field(default_factory=Counter)
    """Errors by text, and how often."""
    harm: int = 0
    """Values lost, torn or wrong, updates that failed, workers that crashed or hung."""
    note: str = ""
    """Why there are no counts."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"troubles": dict(self.troubles)}


@dataclass(frozen=True)
class Test:
    """One test: what it does to a library, and how its findings are shown, as rows by name."""

    name: str
    title: str
    run: Callable[[Ground, str], Finding]
    rows: Mapping[str, Callable[[dict[str, Any]], str]]
    """The text of each row, from the counts."""


class Ground:
    """Makes arrays and workers; leave the `with` block, and no worker is left."""

    def __init__(self, context: Any, directory: Path, installed: list[str], options: Any) -> None:
        self.context, self.directory, self.installed = context, directory, installed
        self.processes: int = options.processes
        self.seconds: float = options.seconds
        self.kills: int = options.kills
        self.timeout: float = options.timeout
        self.one = Settings(threads=1, sync=options.sync)
        self.many = Settings(threads=options.processes, sync=options.sync)
        self._referees: dict[str, Worker] = {}
        self._made = 0

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._referees.values():
            worker.kill()

    def path(self, name: str) -> Path:
        """A path that nobody has."""
        self._made += 1
        return self.directory / f"{self._made}-{name}"

    def array(self, document: dict[str, Any]) -> Path:
        path = self.path("array")
        arrays.create(path, document)
        return path

    def worker(self, work: Callable[..., Any], *arguments: Any) -> Worker:
        return Worker(self.context, self.path("log"), work, *arguments)

    def referee(self, peer: str) -> str:
        """Another library if there is one, else the same."""
        return next((name for name in PREFERRED if name in self.installed and name != peer), peer)

    def read(self, peer: str, path: Path) -> Any:
        """The values of an array that `peer` wrote, read by another; Unreadable where it raises, crashes or hangs."""
        name = self.referee(peer)
        if name not in self._referees:
            self._referees[name] = self.worker(referee, name, self.one)
        self._referees[name].tell(str(path))
        word = self._referees[name].hear(self.timeout)
        if word.failed:
            self._referees.pop(name).kill()
        if word.kind != "values":
            raise Unreadable(str(word).removeprefix("unreadable: "))
        return word.value
