"""Reads of one object that begin together are one request, and each gives what it would give alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import ByteRangeError, StoreError, VersionChangedError
from zarrant.storage import Blob, ByteRange
from zarrant.stores.objects.merging import MergedReads
from zarrant.stores.objects.ranges import requests_for, sharing

DATA = bytes(range(100))


class Object:
    """Bytes that can be replaced, and a list of the reads of them; a read takes some turns of the loop."""

    def __init__(self, turns: int = 3) -> None:
        self.data, self.version, self.turns = DATA, 1, turns
        self.reads: list[int] = []

    async def read(self, ranges: Sequence[ByteRange]) -> Blob | None:
        self.reads.append(len(ranges))
        data, version = self.data, self.version
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if any(start + (length or 0) > len(data) for start, length in ranges):
            raise ByteRangeError("beyond the end")
        return Blob(tuple(memoryview(data)[a : a + (n or 0)] for a, n in ranges), version, len(data))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 20)

    return asyncio.run(limited())


spans = st.tuples(st.integers(0, 110), st.integers(0, 8)).map(lambda span: ByteRange(*span))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(spans, max_size=3), st.integers(0, 6)), max_size=8), st.sampled_from([0, 5, 200])
)
def test_each_gets_what_it_would_get_alone(readers: list[tuple[int, list[ByteRange], int]], gap: int) -> None:
    """Tasks that begin in several turns; some are cancelled, some ask for more than there is."""
    stored, merged = Object(), MergedReads()

    async def one(turns: int, ranges: list[ByteRange]) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await merged.read("k", gap, ranges, stored.read)

    async def alone(ranges: list[ByteRange]) -> Any:
        return await Object().read(ranges)

    async def both() -> None:
        tasks = [asyncio.create_task(one(turns, ranges)) for turns, ranges, _ in readers]
        for turn in range(1, 4):
            await asyncio.sleep(0)
            for task, (_, _, stop) in zip(tasks, readers, strict=True):
                if stop == turn:
                    task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        expected = await asyncio.gather(*(alone(ranges) for _, ranges, _ in readers), return_exceptions=True)
        for got, want, (_, _, stop) in zip(found, expected, readers, strict=True):
            if not (stop in (1, 2, 3) and isinstance(got, asyncio.CancelledError)):
                assert got == want or type(got) is type(want) is ByteRangeError

    run(both())
    assert not merged._open
    assert len(stored.reads) <= 2 * len(readers)


def test_reads_that_begin_together_are_one() -> None:
    stored, merged = Object(), MergedReads()

    async def many() -> list[Any]:
        return await asyncio.gather(*(merged.read("k", 0, [ByteRange(i, 2), ByteRange(i + 1, 3)], stored.read) for i in range(64)))

    found = run(many())
    assert [[bytes(data) for data in blob.data] for blob in found] == [[DATA[i : i + 2], DATA[i + 1 : i + 4]] for i in range(64)]
    assert stored.reads == [128]


def test_what_is_far_apart_is_read_side_by_side() -> None:
    """Each is given its bytes as they come, and does not wait for those of others."""
    stored, merged = Object(), MergedReads()

    async def read(ranges: Sequence[ByteRange]) -> Blob | None:
        for _ in range(ranges[0].start):
            await asyncio.sleep(0)
        return await stored.read(ranges)

    async def one(start: int, ended: list[int]) -> None:
        blob = await merged.read("k", 4, [ByteRange(start, 2)], read)
        assert blob is not None and bytes(blob.data[0]) == DATA[start : start + 2]
        ended.append(start)

    async def many() -> list[int]:
        ended: list[int] = []
        await asyncio.gather(*(one(start, ended) for start in (90, 40, 43, 3, 7, 20)))
        return ended

    assert run(many()) == [3, 7, 20, 40, 43, 90]
    assert sorted(stored.reads) == [1, 1, 2, 2]


def test_who_reads_for_others_is_cancelled_before_it_begins() -> None:
    stored, merged = Object(), MergedReads()

    async def cancel() -> Any:
        tasks = [asyncio.create_task(merged.read("k", 0, [ByteRange(start, 1)], stored.read)) for start in (0, 50, 51, 52)]
        while not stored.reads:
            await asyncio.sleep(0)
        tasks[1].cancel()  # it has been told to read for two more, and has not had its turn yet
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = run(cancel())
    assert isinstance(found.pop(1), asyncio.CancelledError)
    assert [bytes(blob.data[0]) for blob in found] == [bytes([start]) for start in (0, 51, 52)]


def test_versions_are_asked_for_with_ranges() -> None:
    stored, merged = Object(), MergedReads()
    wanted: list[list[ByteRange]] = [[], [ByteRange(0, 1)], [], [ByteRange(50, 1)]]

    async def many() -> list[Any]:
        return await asyncio.gather(*(merged.read("k", 0, ranges, stored.read) for ranges in wanted))

    assert [len(blob.data) for blob in run(many())] == [0, 1, 0, 1]
    assert len(stored.reads) == 2


def test_no_more_than_so_many_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.stores.objects.merging.MAX_READS_IN_FLIGHT", 3)
    merged, running, most = MergedReads(), 0, 0

    async def read(ranges: Sequence[ByteRange]) -> Blob | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return None

    async def many() -> None:
        await asyncio.gather(*(merged.read("k", 0, [ByteRange(start, 1)], read) for start in range(0, 100, 10)))

    run(many())
    assert most == 3


@given(st.lists(st.lists(spans, max_size=3), max_size=6), st.integers(0, 20))
def test_reads_that_share_no_request_make_as_few_apart(reads: list[list[ByteRange]], gap: int) -> None:
    groups = sharing(reads, gap)
    assert sorted(number for group in groups for number in group) == list(range(len(reads)))
    apart = [requests_for([span for number in group for span in reads[number]], gap) for group in groups]
    together = requests_for([span for ranges in reads for span in ranges], gap)
    assert sorted(request for requests in apart for request in requests) == together


def test_large_requests_stay_several() -> None:
    """Near ranges are no more than 16 MiB together: what the next request has is read by another task."""
    ranges = [ByteRange(start << 20, 1 << 20) for start in range(20)]
    assert sharing([[each] for each in ranges], 0) == [list(range(16)), list(range(16, 20))]


def test_what_has_nothing_in_common_is_read_apart() -> None:
    stored, merged = Object(), MergedReads()

    async def many() -> list[Any]:
        return await asyncio.gather(*(merged.read(("k", i % 3), 2, [ByteRange(i, 1)], stored.read) for i in range(9)))

    run(many())
    assert stored.reads == [3, 3, 3]


def test_who_comes_after_the_request_was_sent_asks_again() -> None:
    """What was asked for before may be older than what the new reader knows to be stored."""
    stored, merged = Object(turns=6), MergedReads()

    async def newer() -> Any:
        early = [asyncio.create_task(merged.read("k", 0, [ByteRange(0, 2)], stored.read)) for _ in range(2)]
        while not stored.reads:
            await asyncio.sleep(0)
        stored.data, stored.version = DATA[::-1], 2
        late = await merged.read("k", 0, [ByteRange(0, 2)], stored.read)
        assert late is not None and (bytes(late.data[0]), late.version) == (DATA[::-1][:2], 2)
        return [blob.version for blob in await asyncio.gather(*early) if blob is not None]

    assert run(newer()) == [1, 1]
    assert stored.reads == [2, 1]


@pytest.mark.parametrize("turns", range(4))
def test_where_the_first_is_cancelled_the_others_go_on_together(turns: int) -> None:
    stored, merged = Object(), MergedReads()

    async def cancel() -> Any:
        first, *others = [asyncio.create_task(merged.read("k", 0, [ByteRange(i, 1)], stored.read)) for i in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        return [bytes(blob.data[0]) for blob in found[1:]]

    assert run(cancel()) == [bytes([i]) for i in range(1, 5)]
    assert len(stored.reads) <= 2


def test_each_has_an_error_of_its_own() -> None:
    """One that all share, as a changed version, is asked for once; one that may be another's by each for itself."""
    asked: list[int] = []

    async def changed(ranges: Sequence[ByteRange]) -> Blob | None:
        asked.append(len(ranges))
        raise VersionChangedError("replaced", key="k")

    async def refused(ranges: Sequence[ByteRange]) -> Blob | None:
        asked.append(len(ranges))
        raise StoreError("refused", key="k")

    async def errors(read: Any) -> list[Any]:
        merged = MergedReads()
        return await asyncio.gather(*(merged.read("k", 0, [ByteRange(0, 1)], read) for _ in range(3)), return_exceptions=True)

    for read, kind, requests in ((changed, VersionChangedError, [3]), (refused, StoreError, [3, 1, 1, 1])):
        found = run(errors(read))
        assert [type(error) for error in found] == [kind] * 3
        assert len({id(error) for error in found}) == 3
        assert sorted(asked, reverse=True) == requests
        asked.clear()


def test_several_loops() -> None:
    merged, found = MergedReads(), []

    def loop() -> None:
        stored = Object()

        async def many() -> None:
            for _ in range(20):
                blobs = await asyncio.gather(*(merged.read("k", 0, [ByteRange(i, 1)], stored.read) for i in range(5)))
                assert [bytes(blob.data[0]) for blob in blobs if blob is not None] == [bytes([i]) for i in range(5)]

        run(many())
        found.append(stored.reads)

    threads = [threading.Thread(target=loop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[5] * 20] * 4
