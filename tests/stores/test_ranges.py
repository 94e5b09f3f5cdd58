"""Byte ranges as requests: near ones together, and not too many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.storage import ByteRange
from zarrant.stores.objects import ranges as module
from zarrant.stores.objects.ranges import MAX_JOINED_BYTES, Reply, cut, requests_for


def test_near_ranges_are_one_request() -> None:
    assert requests_for([ByteRange(30, 5), ByteRange(0, 10), ByteRange(12, 2), ByteRange(7, 0)], 2) == [(0, 14), (30, 35)]


def test_many_large_ranges_are_no_giant_request() -> None:
    """As tasks ask for the subchunks of one huge shard in the same turn of their loop."""
    size, n = 3 << 20, 40
    found = requests_for([ByteRange(i * size, size) for i in range(n)], 0)
    assert max(stop - start for start, stop in found) <= MAX_JOINED_BYTES
    assert len(found) == 8 and found[0][0] == 0 and found[-1][1] == n * size
    large = MAX_JOINED_BYTES + 1
    assert requests_for([ByteRange(0, large), ByteRange(5, 5), ByteRange(large, 1)], 9) == [(0, large), (large, large + 1)]


@given(st.lists(st.builds(ByteRange, st.integers(0, 60), st.integers(0, 30)), max_size=8), st.integers(0, 9), st.integers(1, 40))
def test_each_range_is_in_one_reply(ranges: list[ByteRange], gap: int, limit: int) -> None:
    data = memoryview(bytes(range(100)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_JOINED_BYTES", limit)
        requests = requests_for(ranges, gap)
    replies = [Reply(start, data[start:stop], None, 100) for start, stop in requests]
    found = cut(ranges, replies, 100)
    assert [bytes(view) for view in found] == [bytes(data[start : start + (n or 0)]) for start, n in ranges]
    assert all(stop - start <= limit or ByteRange(start, stop - start) in ranges for start, stop in requests)
