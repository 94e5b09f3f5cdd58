"""Appending to several arrays as one on stores that can only compare and swap: turns of all arrays, and one record.

In: paths of arrays, and data to put behind their ends. Out: the slice that the data got, the same in every array. What is promised
is what `ops/group_changes.py` promises where there are locks. The steps:

1. A record is stored that says *pending* (`ops/append_record.py`), under a name of its own.
2. The turns of all arrays are taken (`ops/turns.py`), in the order of their paths, so that two never wait for each other. Each
   names the record. All are renewed together while one is waited for, or data are stored.
3. Everything is checked, and the data are stored behind the ends.
4. The record is replaced by one that says *decided*, and which shapes: one swap, of which this and dropping the append exclude each
   other.
5. Each array gets its shape, and its turn ends; then the record is erased.

A writer that is killed before step 4 leaves turns that others wait for, and then drop with the record. One that is killed after it
leaves turns that the next writer completes at once. A writer that was only slow finds its record dropped and starts over, or finds
its arrays completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zarrant.errors import ConflictError, ZarrantError
from zarrant.metadata.turn import MAX_SECONDS
from zarrant.ops import append_record, turns
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.casting import as_values
from zarrant.ops.current import TurnLost, require_turn
from zarrant.ops.growing import Growing, check, read_array
from zarrant.ops.guard import MAX_TRIES
from zarrant.ops.resize import check_axis, store_behind
from zarrant.requests import Op, put_one


def append(group: str, data: Mapping[str, Any], axis: int, options: OpOptions) -> Op[slice]:
    """Store data behind the ends of arrays, given by their paths, then grow them all; returns the slice of `axis`."""
    seconds = turns.TAKE_OVER_S
    for _ in range(MAX_TRIES):
        token = turns.new_token()
        taken: dict[str, BoundArray] = {}
        try:
            return (yield from _append(group, token, data, axis, options, seconds, taken))
        except Exception as error:
            if not isinstance(error, TurnLost) and not any(turns.turn_of(now).lost for now in taken.values()):
                raise
            seconds = min(2 * seconds, MAX_SECONDS)
        except BaseException:
            turns.abandon(token)  # nothing can be asked for any more
            raise
    raise ConflictError("other writers took over every turn", path=group or "/", limit=f"{MAX_TRIES} tries")


def _append(
    group: str,
    token: str,
    data: Mapping[str, Any],
    axis: int,
    options: OpOptions,
    seconds: float,
    taken: dict[str, BoundArray],
) -> Op[slice]:
    """One try; in `taken` are the arrays whose turns it has taken."""
    key, names = append_record.key_of_record(group, token), {path: path[len(group) :].strip("/") for path in data}
    try:
        version = yield from put_one(key, [append_record.dump_pending(token, list(names.values()))], None)
        yield from _take_all(group, token, sorted(data), options, seconds, taken)
        arrays = [_growing(taken[path], values, axis) for path, values in data.items()]
        check(arrays)
        shapes = (yield from _store_all(arrays)) if arrays[0].added else None
        if shapes is not None:
            decided = {names[path]: shape for path, shape in shapes.items()}
            yield from append_record.decide(key, token, decided, version)
    except append_record.InDoubtError:
        raise  # others find out
    except Exception:
        yield from _withdraw(key, token, data, options)
        raise
    if shapes is None:
        yield from _withdraw(key, token, data, options)
    else:
        yield from _complete(key, token, shapes, options)
    return slice(arrays[0].length, arrays[0].length + arrays[0].added)


def _take_all(
    group: str, token: str, paths: Sequence[str], options: OpOptions, seconds: float, taken: dict[str, BoundArray]
) -> Op[None]:
    """Take the turns of all arrays, so that they are the same operation's at one moment."""
    for path in paths:
        array, _ = yield from read_array(path, options)
        name = (token, append_record.name_of(group, path, token))
        taken[path] = yield from turns.take(array, seconds, name=name, others=list(taken.values()))
    for path, now in taken.items():
        turns.turn_of(now).others.extend(other for other in taken.values() if other.prefix != path)
    yield from _require_all(taken.values())


def _require_all(taken: Iterable[BoundArray]) -> Op[None]:
    for now in taken:
        yield from require_turn(now)


def _growing(now: BoundArray, values: Any, axis: int) -> Growing:
    return Growing(now, now.metadata.version, as_values(now, values), check_axis(axis, len(now.shape)))


def _store_all(arrays: Sequence[Growing]) -> Op[dict[str, tuple[int, ...]]]:
    """Store all data; the shapes that show them, by path."""
    shapes = {}
    for array in arrays:
        grown = yield from store_behind(array.now, [array.values], array.axis)
        shapes[array.now.prefix] = grown.shape
    yield from _require_all(array.now for array in arrays)  # a writer that takes no turns may have removed one
    return shapes


def _complete(key: str, token: str, shapes: Mapping[str, Sequence[int]], options: OpOptions) -> Op[None]:
    """Give all arrays their new shapes, as was decided. What fails here is completed by the next writer."""
    failed = None
    for path, shape in shapes.items():
        try:
            yield from append_record.end_turn(path, token, shape, options, sure=True)
        except ZarrantError as error:
            failed = error
    if failed is not None:
        hint = "Do not repeat it: the next append completes it"
        raise ConflictError(
            f"an append to several arrays is stored, but not all of them show it yet ({failed})", key=key, hint=hint
        )
    try:
        yield from put_one(key, None)
    except ZarrantError:
        pass  # nothing leads to it any more


def _withdraw(key: str, token: str, data: Mapping[str, Any], options: OpOptions) -> Op[None]:
    """End the turns without a change, after all that was not decided; where that fails too, others do it in time."""
    try:
        for path in data:
            yield from append_record.end_turn(path, token, None, options)
        yield from put_one(key, None)
    except ZarrantError:
        turns.abandon(token)
