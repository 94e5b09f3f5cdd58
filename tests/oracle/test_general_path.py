"""The general path is the specification of the fast one: one codec object at a time gives what compiled programs give.

Three ways to run a chain: `compiled` as installed, `reference` with the NumPy kernels under whole programs, `one by one` with
each codec called alone. What one writes another reads, also over old data, and where no compressor is in the chain all three
store the same bytes. The ways are chosen in the module that runs chains, so everything else is what users run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from cases import AXES, Case
from exchange import expect
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant import kernels
from zarrant.codecs.pipeline import fixed_size
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.kernels import reference

WAYS = ("compiled", "reference", "one by one")
HAS_SNAPPY = reference.features()["blosc:snappy"]  # the Blosc of numcodecs has it not, ours may


def runs_everywhere(case: Case) -> bool:
    return HAS_SNAPPY or "snappy" not in case.codec


everything = {axis: st.sampled_from(values) for axis, values in AXES.items()}
cases = st.builds(Case, **everything).map(lambda case: case.canonical).filter(runs_everywhere)


@contextmanager
def running(way: str) -> Iterator[None]:
    """Chains run in one of the `WAYS`."""
    with pytest.MonkeyPatch.context() as patch:
        if way != "compiled":
            patch.setattr(fixed_size, "kernels", reference)
            patch.setattr(ChunkPipeline, "kernel", property(lambda self: reference))
        if way == "one by one":
            patch.setattr(ChunkPipeline, "program", property(lambda self: None))
        yield


def stored(case: Case, way: str) -> dict[str, bytes]:
    """All objects of an array that was written in one way."""
    objects = {"zarr.json": json.dumps(case.document).encode()}
    with running(way):
        zarrant.open_array(objects, mode="r+")[...] = case.source_values
    return {key: bytes(value) for key, value in objects.items()}


@given(case=cases, writer=st.sampled_from(WAYS), updater=st.sampled_from(WAYS), reader=st.sampled_from(WAYS))
def test_what_one_way_writes_another_reads(case: Case, writer: str, updater: str, reader: str) -> None:
    objects = stored(case, writer)
    expected = case.values.copy()
    if case.update is not None:
        region, values = case.update
        expected[region] = values
        with running(updater):
            zarrant.open_array(objects, mode="r+")[region or ...] = values
    with running(reader):
        expect(case, expected, zarrant.open_array(objects, mode="r")[...], f"{reader} reads {writer}, updated by {updater}")


@given(case=cases.filter(lambda case: "zstd" not in case.around))
def test_the_same_bytes(case: Case) -> None:
    if not {"gzip", "blosc", "zstd"} & set(case.codec.split()):
        by_way = [stored(case, way) for way in WAYS]
        assert by_way[0] == by_way[1] == by_way[2]


@given(case=cases.filter(lambda case: case.geometry not in ("0-d", "empty")), byte=st.integers(0), bit=st.integers(0, 7))
def test_damage_is_seen_alike(case: Case, byte: int, bit: int) -> None:
    """A flipped bit of a stored object gives each way the same elements, or an error from each."""
    objects = stored(case, "compiled")
    keys = sorted(set(objects) - {"zarr.json"})
    if not keys:
        return
    broken = bytearray(objects[keys[0]])
    broken[byte % len(broken)] ^= 1 << bit
    objects[keys[0]] = bytes(broken)
    seen: list[bytes | str] = []
    for way in WAYS:
        with running(way):
            try:
                seen.append(np.asarray(zarrant.open_array(objects, mode="r")[...]).tobytes())
            except zarrant.errors.ZarrantError as error:
                assert error.blame == "data"
                seen.append("damaged")
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.skipif(HAS_SNAPPY, reason="the reference has snappy")
def test_without_snappy() -> None:
    """Where the reference lacks the compressor it says so, and does not speak of damage."""
    case = Case(codec="blosc snappy shuffle")
    for way in ("reference", "one by one"):
        with pytest.raises(Exception, match="snappy"):
            stored(case, way)
    if kernels.active()["step:blosc:snappy"] == "reference":
        return
    objects = stored(case, "compiled")
    with running("reference"), pytest.raises(zarrant.errors.ZarrantError, match="built without snappy"):
        zarrant.open_array(objects, mode="r")[...]
    with running("one by one"):  # a step alone is decoded by the compiled kernels too
        expect(case, case.values, zarrant.open_array(objects, mode="r")[...], "one by one reads compiled")


def test_the_ways_are_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way runs the code it is named for."""
    ran: list[str] = []

    def counted(name: str, function: object) -> object:
        def call(*args: object, **options: object) -> object:
            ran.append(name)
            return function(*args, **options)  # type: ignore[operator]

        return call

    compiled = kernels.serving(((kernels.CRC32C,),))
    if compiled is not reference:
        for name in ("encode", "encode_boxes"):
            monkeypatch.setattr(compiled, name, counted("compiled", getattr(compiled, name)))
    for name in ("encode", "encode_boxes"):
        monkeypatch.setattr(reference, name, counted("reference", getattr(reference, name)))
    monkeypatch.setattr(zarrant.codecs.Crc32c, "encode", counted("one by one", zarrant.codecs.Crc32c.encode))
    for way in WAYS:
        ran.clear()
        stored(Case(codec="crc32c"), way)
        uncompiled = way == "compiled" and compiled is reference
        assert way in ran or uncompiled
        assert not set(ran) & set(WAYS) - {way} or uncompiled
