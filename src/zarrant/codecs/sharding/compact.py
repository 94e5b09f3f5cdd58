"""A shard without its dead bytes, or without entries that are at fault.

In comes a tree of `Level`s (`survey`); out go the parts of the new object: ranges of the old one, and new indexes. What lives
is never decoded, nor moved through memory where the store can splice; only a shard that is inside of other codecs is, since
its bytes are not those that are stored. A shard in which nothing lives is no shard: it becomes Missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from zarrant.codecs.sharding.format import Index
from zarrant.codecs.sharding.inspect import Level
from zarrant.codecs.sharding.prepared import length_of, repack
from zarrant.storage import Buffer, Part


def changes(level: Level, compact: bool) -> bool:
    """Whether `rebuilt` would differ from what is stored."""
    if level.dropped or (compact and (level.dead > 0 or not level.index.present.any())):
        return True
    return any(changes(child, compact) for child in level.children.values())


def rebuilt(level: Level, compact: bool = True) -> list[Part] | None:
    """The parts of the new shard, None where no subchunk is left.

    With `compact` live subchunks are moved together, at every level. Without, a shard that only lost entries keeps its data in
    place under a new index.
    """
    shard, kept = level.shard, level.index
    start, stop = level.data
    parts: Sequence[Part]
    if any(changes(child, compact) for child in level.children.values()):
        parts, kept = _with_children(level, start, compact)
    elif compact:
        parts, kept, _ = repack(level.source, kept, start)
    else:
        parts = [level.source.part(start, stop - start)]
    if not kept.present.any():
        return None
    index = shard.encode_index(kept)
    new = [index, *parts] if shard.at_start else [*parts, index]
    if not shard.outer:
        return new
    return [shard.apply_outer(b"".join(cast("list[Buffer]", new)))]


def _with_children(level: Level, first: int, compact: bool) -> tuple[list[Part], Index]:
    """Subchunks one after the other, those that are shards and change as they become."""
    parts: list[Part] = []
    offset, size = level.index.offset.copy(), level.index.size.copy()
    at, run = first, (0, 0)  # the old bytes that go over as one part: neighbours that do not change
    present = np.flatnonzero(level.index.present)
    for row in present[np.argsort(offset[present], kind="stable")].tolist():
        begin, end = int(offset[row]), int(offset[row] + size[row])
        child = level.children.get(row)
        if child is None or not changes(child, compact):
            if begin != run[1]:
                parts += _run(level, run)
                run = (begin, begin)
            run = (run[0], end)
        else:
            new = rebuilt(child, compact)
            parts += [*_run(level, run), *(new or ())]
            run = (0, 0)
            size[row] = -1 if new is None else sum(map(length_of, new))
        offset[row] = -1 if size[row] < 0 else at
        at += max(0, int(size[row]))
    return parts + _run(level, run), Index(offset, size)


def _run(level: Level, run: tuple[int, int]) -> list[Part]:
    return [level.source.part(run[0], run[1] - run[0])] if run[1] > run[0] else []
