"""Workers: processes that do something with a library, and may raise, crash or hang while they do.

In comes a function `work(pipe, *arguments)` of an importable module; it talks to the parent over the pipe, and what it returns is
sent at its end. Out goes, from `hear`, a `Word`: what the worker sent, or that it raised, crashed or kept silent. Nothing that a
worker does is an error here. Processes are forked from one that has imported the libraries and used none of them.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RAISED, CRASHED, HUNG = "raised", "crashed", "hung"
FAILURES = (RAISED, CRASHED, HUNG)
RUN = re.compile(r"[^\s'\"]*zarrant-safety-[^/]*/\d*-?")
"""The directory of a run, in an error."""
PRELOADED = (
    "numpy",
    "zarrant",
    "tensorstore",
    "zarr",
    "zarrs",
    "zarrista",
    "benchmarks.__main__",
    "benchmarks.kills",
    "benchmarks.races",
    "benchmarks.readings",
)


@dataclass(frozen=True)
class Word:
    """What was heard of a worker."""

    kind: str
    """"ready" or whatever it sent; "done" at its end; or one of FAILURES."""
    value: Any = None

    @property
    def failed(self) -> bool:
        return self.kind in FAILURES

    def __str__(self) -> str:
        return f"{self.kind}: {self.value}" if self.value else self.kind


def set_out() -> Any:
    """Let processes be forked from a server that knows the libraries; once, before the first worker."""
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))  # what is not installed is passed over
    return context


class Worker:
    """A process; leave the `with` block, or call `kill`, and it is gone."""

    def __init__(self, context: Any, log: Path, work: Callable[..., Any], *arguments: Any) -> None:
        self.log = log
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_live, args=(theirs, str(log), work, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def tell(self, value: Any = None) -> None:
        try:
            self.pipe.send(value)
        except OSError:
            pass  # it is gone: `hear` says how

    def hear(self, timeout: float) -> Word:
        """The next word, or that there was none in `timeout` seconds: then it is killed."""
        try:
            if self.pipe.poll(max(0.0, timeout)):
                return Word(*self.pipe.recv())
        except (EOFError, OSError):
            self.process.join(10)
            return Word(CRASHED, _end(self.process.exitcode, self.log))
        self.kill()
        return Word(HUNG, "no answer in time")

    def kill(self) -> None:
        """End it as by SIGKILL; nothing where it has ended."""
        self.process.kill()
        self.process.join(10)


def together(workers: Sequence[Worker], timeout: float) -> list[Word]:
    """Wait until all are ready, let all begin at once, wait for all; the last word of each."""
    starts = [worker.hear(timeout) for worker in workers]
    for worker in workers:
        worker.tell()
    deadline = time.monotonic() + timeout
    return [
        start if start.failed else worker.hear(deadline - time.monotonic()) for worker, start in zip(workers, starts, strict=True)
    ]


def dismiss(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.kill()


def one_line(error: BaseException | str) -> str:
    """An error on one line, without the directory of this run."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return " ".join(RUN.sub("", text).split())[:200].rstrip(": ")


def _live(pipe: Connection, log: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The life of a worker: what libraries print goes to a file, of which the last line is told after a crash."""
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    try:
        pipe.send(("done", work(pipe, *arguments)))
    except BaseException as error:
        pipe.send((RAISED, one_line(error)))


def _end(status: int | None, log: Path) -> str:
    how = signal.Signals(-status).name if status is not None and status < 0 else f"status {status}"
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()] if log.exists() else []
    return one_line(f"{how} {lines[-1]}" if lines else how)
