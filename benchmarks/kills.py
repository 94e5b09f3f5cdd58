"""Kills: writers that die by SIGKILL at random moments, what is left of the object, and whether the next writer can go on.

Each trial starts a writer, which makes one update (the next write after the last kill: it must be there exactly), then one after
the other until it is killed. What the referee reads must be the last acknowledged update or the one begun after it, wholly.
In comes the ground and the name of a library; out goes a `Finding`.
"""

from __future__ import annotations

import random
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ground import Finding, Ground, Test, Unreadable
from benchmarks.hands import write_for_ever, write_once
from benchmarks.scenes import Scene

LIFE = 0.002, 0.04
"""Seconds that a writer lives after its first update."""
SCENES = {"overwriting part of a chunk": Scene(160, sharded=False), "overwriting part of a shard": Scene(64, sharded=True)}
"""1.8 MB as they are; 0.3 MB in 9 compressed subchunks."""
COUNTS = ("kills", "old", "new", "torn", "unreadable", "exact", "inexact", "refused", "most files", "files")


class Trials:
    """An array of one library and the kills of its writers."""

    def __init__(self, scene: Scene, ground: Ground, peer: str) -> None:
        self.scene, self.ground, self.peer = scene, ground, peer
        self.path, self.told = ground.array(scene.document), ground.path("told")
        self.told.write_bytes(bytes(16))
        self.pristine = ground.path("pristine")
        self.finding = Finding(dict.fromkeys(COUNTS, 0))
        self.k = 0

    def run(self) -> Finding:
        note = self._prepare()
        if note:
            return Finding(note=note, harm=1)
        dice = random.Random(0)
        for _ in range(self.ground.kills):
            self._trial(dice.uniform(*LIFE))
        self._finish()
        counts = self.finding.counts
        self.finding.harm += sum(counts[name] for name in ("torn", "unreadable", "inexact", "refused"))
        return self.finding

    def _prepare(self) -> str:
        """Update 0 by the library itself; what hinders it."""
        ground, scene = self.ground, self.scene
        with ground.worker(write_once, self.peer, ground.one, str(self.path), scene.whole, scene.version(0)) as worker:
            word = worker.hear(ground.timeout)
        if word.failed:
            return str(word)
        shutil.copytree(self.path, self.pristine)
        self.usual = self._files()
        return ""

    def _trial(self, life: float) -> None:
        self.k += 1
        counts = self.finding.counts
        arguments = (self.peer, self.ground.one, str(self.path), self.scene, str(self.told), self.k)
        with self.ground.worker(write_for_ever, *arguments) as worker:
            if not self._next_write(worker.hear(self.ground.timeout)):
                return
            worker.tell()
            time.sleep(life)
            if worker.pipe.poll():
                self.finding.troubles[f"writing on: {worker.hear(0)}"] += 1
                self.finding.harm += 1
        counts["kills"] += 1
        begun, done = (int(k) for k in np.fromfile(self.told, np.int64))
        verdict = self._verdict({done: "old", begun: "new" if begun > done else "old"})
        counts[verdict] += 1
        counts["most files"] = max(counts["most files"], self._files() - self.usual)
        self.k = begun

    def _next_write(self, word: Any) -> bool:
        """Whether the first update of a writer is there, exactly; where it is not, the array is put back as it was."""
        if word.failed:
            verdict = "refused"
            self.finding.troubles[f"next write: {word}"] += 1
        else:
            verdict = "exact" if self._verdict({self.k: "exact"}) == "exact" else "inexact"
        self.finding.counts[verdict] += 1
        if verdict != "exact":
            shutil.rmtree(self.path)
            shutil.copytree(self.pristine, self.path)
        return verdict == "exact"

    def _verdict(self, names: dict[int, str]) -> str:
        """Which of some updates the array shows, by the name given for it; "torn" for none, or "unreadable"."""
        try:
            found = self.ground.read(self.peer, self.path)
        except Unreadable as error:
            self.finding.troubles[f"after a kill: {error}"] += 1
            return "unreadable"
        return next((name for k, name in names.items() if np.array_equal(found, self.scene.after(k))), "torn")

    def _finish(self) -> None:
        """One more write after the last kill, then what files are left over."""
        self.k += 1
        ground, region = self.ground, self.scene.region
        values = self.scene.version(self.k, region)
        with ground.worker(write_once, self.peer, ground.one, str(self.path), region, values) as worker:
            self._next_write(worker.hear(ground.timeout))
        self.finding.counts["files"] = self._files() - self.usual

    def _files(self) -> int:
        return count_files(self.path)


def count_files(path: Path) -> int:
    return sum(entry.is_file() for entry in path.rglob("*"))


def tests() -> list[Test]:
    rows = {
        "old / new / torn / unreadable": lambda n: f"{n['old']} / {n['new']} / {n['torn']} / {n['unreadable']}",
        "next write exact / inexact / failed": lambda n: f"{n['exact']} / {n['inexact']} / {n['refused']}",
        "files left over: most, in the end": lambda n: f"{n['most files']}, {n['files']}",
    }

    def run(scene: Scene, ground: Ground, peer: str) -> Finding:
        return Trials(scene, ground, peer).run()

    found = []
    for what, scene in SCENES.items():
        name = "kill-shard" if scene.sharded else "kill-chunk"
        found.append(Test(name, f"SIGKILL while {what}", partial(run, scene), rows))
    return found
