"""Rewrite a shard without its dead bytes, or without invalid entries.

In comes the `ShardReport` of a shard (`inspect`). Out go the parts of the new object: ranges of the old one, and new indexes. Live
subchunks are never decoded; where the store can splice, their bytes do not even pass through memory. The exception is a shard
inside of other codecs, whose stored bytes are not those of the shard. A shard without live subchunks becomes "not stored".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from zarrant.codecs.sharding.format import Index
from zarrant.codecs.sharding.inspect import ShardReport
from zarrant.codecs.sharding.prepared import length_of, repack
from zarrant.storage import Buffer, Part


def changes(report: ShardReport, compact: bool) -> bool:
    """Whether `rebuilt` would differ from what is stored."""
    if report.dropped or (compact and (report.dead > 0 or not report.index.present.any())):
        return True
    return any(changes(child, compact) for child in report.children.values())


def rebuilt(report: ShardReport, compact: bool = True) -> list[Part] | None:
    """The parts of the new shard, None where no subchunk is left.

    With `compact` live subchunks are moved together, in inner shards too. Without it, a shard that only lost entries keeps its
    data in place and gets a new index.
    """
    shard, kept = report.shard, report.index
    start, stop = report.data
    parts: Sequence[Part]
    if any(changes(child, compact) for child in report.children.values()):
        parts, kept = _with_children(report, start, compact)
    elif compact:
        parts, kept, _ = repack(report.source, kept, start)
    else:
        parts = [report.source.part(start, stop - start)]
    if not kept.present.any():
        return None
    index = shard.encode_index(kept)
    new = [index, *parts] if shard.at_start else [*parts, index]
    if not shard.outer_codecs:
        return new
    return [shard.apply_outer(b"".join(cast("list[Buffer]", new)))]


def _with_children(report: ShardReport, first: int, compact: bool) -> tuple[list[Part], Index]:
    """All subchunks, one after the other; inner shards that change are rewritten."""
    parts: list[Part] = []
    offset, size = report.index.offset.copy(), report.index.size.copy()
    at, run = first, (0, 0)  # the old bytes that go over as one part: neighbours that do not change
    present = np.flatnonzero(report.index.present)
    for row in present[np.argsort(offset[present], kind="stable")].tolist():
        begin, end = int(offset[row]), int(offset[row] + size[row])
        child = report.children.get(row)
        if child is None or not changes(child, compact):
            if begin != run[1]:
                parts += _run(report, run)
                run = (begin, begin)
            run = (run[0], end)
        else:
            new = rebuilt(child, compact)
            parts += [*_run(report, run), *(new or ())]
            run = (0, 0)
            size[row] = -1 if new is None else sum(map(length_of, new))
        offset[row] = -1 if size[row] < 0 else at
        at += max(0, int(size[row]))
    return parts + _run(report, run), Index(offset, size)


def _run(report: ShardReport, run: tuple[int, int]) -> list[Part]:
    return [report.source.part(run[0], run[1] - run[0])] if run[1] > run[0] else []
