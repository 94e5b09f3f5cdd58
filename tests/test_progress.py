"""Progress adds up, from any number of threads."""

from __future__ import annotations

import threading

import pytest

from zarrant.progress import Meter, Progress


def test_sums_from_many_threads_lose_nothing() -> None:
    seen: list[Progress] = []
    meter = Meter(bytes_total=8 * 200 * 3, chunks_total=8 * 200, report=seen.append)

    def work() -> None:
        for _ in range(200):
            meter.add(nbytes=3, chunks=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [progress.chunks_done for progress in seen] == list(range(1, 1601))
    assert seen[-1].fraction == 1.0


def test_speed_is_measured_from_the_start() -> None:
    times = iter([10.0, 12.0])
    seen: list[Progress] = []
    Meter(4_000_000, 2, seen.append, clock=lambda: next(times)).add(3_000_000, 1)
    assert (seen[0].seconds, seen[0].megabytes_per_second, seen[0].fraction) == (2.0, 1.5, 0.75)


def test_nothing_to_do_is_done() -> None:
    progress = Meter(0, 0, clock=lambda: 1.0).progress
    assert (progress.fraction, progress.megabytes_per_second) == (1.0, 0.0)


def test_a_report_that_raises_ends_the_work() -> None:
    def refuse(_: Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        Meter(1, 1, refuse).add(1, 1)
