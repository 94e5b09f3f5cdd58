"""Each server as a fixture, started when a test first wants it, and ended with the tests.

Every process that runs tests has its own. A place that nobody uses is `server.fresh_url()`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import (
    Server,
    start_azurite,
    start_fake_gcs,
    start_gofakes3,
    start_moto,
    start_redis,
    start_versitygw,
    start_without_conditions,
)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    with start_moto() as server:
        yield server


@pytest.fixture(scope="session")
def gofakes3() -> Iterator[Server]:
    with start_gofakes3() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Server]:
    with start_azurite() as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[Server]:
    with start_fake_gcs() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw() -> Iterator[Server]:
    with start_versitygw() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw_sidecar() -> Iterator[Server]:
    """One that passes any probe that is made of one request after the other, and loses updates."""
    with start_versitygw(sidecar=True) as server:
        yield server


@pytest.fixture(scope="session")
def no_conditions() -> Iterator[Server]:
    """One that ignores the conditions of writes."""
    with start_without_conditions() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with start_redis() as url:
        yield url


@pytest.fixture(params=["moto", "gofakes3", "azurite", "fake_gcs"])
def object_server(request: pytest.FixtureRequest) -> Server:
    """Each server that keeps its word, in turn."""
    server: Server = request.getfixturevalue(request.param)
    return server
