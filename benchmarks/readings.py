"""Readings: every library reads one object in a loop while one process updates it through the library under test.

A plain chunk is read in one step; of a shard a reader gets the index first and then the parts it names, between which the writer
may have replaced it. There is one writer, so that nothing seen here comes of lost updates. In comes the ground and the name of
the writer; out goes a `Finding`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.crew import dismiss, together
from benchmarks.ground import Finding, Ground, Test
from benchmarks.hands import read, write_for_ever, write_once
from benchmarks.scenes import Scene

SCENES = {"chunk, one step": Scene(80, sharded=False), "shard, two steps": Scene(32, sharded=True)}
"""460 kB as they are; 74 kB in 9 compressed subchunks."""


def reading(scene: Scene, ground: Ground, peer: str) -> Finding:
    """All libraries read at once, while the writer writes."""
    path, told = str(ground.array(scene.document)), ground.path("told")
    told.write_bytes(bytes(16))
    with ground.worker(write_once, peer, ground.one, path, scene.whole, scene.version(0)) as first:
        if (word := first.hear(ground.timeout)).failed:
            return Finding(note=str(word), harm=1)
    with ground.worker(write_for_ever, peer, ground.one, path, scene, str(told), 1) as writer:
        if (word := writer.hear(ground.timeout)).failed:
            return Finding(note=str(word), harm=1)
        readers = [ground.worker(read, name, ground.one, path, scene, str(told), ground.seconds) for name in ground.installed]
        try:
            writer.tell()
            words = together(readers, ground.seconds + ground.timeout)
        finally:
            dismiss(readers)
        writer.tell()
        end = writer.hear(ground.timeout)
    finding = Finding({"updates": int(np.fromfile(told, np.int64)[1])})
    if end.failed:
        finding.troubles[f"the writer {end}"] += 1
        finding.harm += 1
    for name, word in zip(ground.installed, words, strict=True):
        _account(finding, name, word)
    return finding


def _account(finding: Finding, reader: str, word: Any) -> None:
    if word.failed:
        finding.counts[reader] = word.kind
        finding.troubles[f"{reader} {word}"] += 1
        finding.harm += 1
        return
    counts = dict(word.value)
    for text, times in counts.pop("troubles").items():
        finding.troubles[f"{reader} read: {text}"] += times
    finding.counts[reader] = counts
    finding.harm += counts["wrong"] + counts["raised"]


def _shown(reader: str, counts: dict[str, Any]) -> str:
    found = counts[reader]
    if isinstance(found, str):
        return found
    return f"{found['reads']:,}: {found['wrong']:,} / {found['raised']:,} / {found['mixed']:,}"


def tests(readers: list[str]) -> list[Test]:
    rows: dict[str, Callable[[dict[str, Any]], str]] = {"updates made": lambda n: f"{n['updates']:,}"}
    rows |= {f"{name} reads: wrong / raised / mixed": partial(_shown, name) for name in readers}
    return [
        Test(f"read-{what.split(',')[0]}", f"reading a {what}", partial(reading, scene), rows) for what, scene in SCENES.items()
    ]
