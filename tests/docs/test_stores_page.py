"""The examples of docs/stores.md run: each section (`## ...`) in one namespace and an empty directory of its own.

Sections about services run against a server on this machine, which they find as a user's program would: in the environment.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVERS = {"s3://": "gofakes3", "gs://": "fake_gcs", "az://": "azurite", "REDIS_URL": "redis_url"}
"""What in the examples of a section asks for which server."""
LIBRARIES = ("fsspec", "obstore", "zarr")
VARIABLES = {
    "gofakes3": {
        "AWS_ENDPOINT_URL": "endpoint",
        "AWS_ACCESS_KEY_ID": "access_key_id",
        "AWS_SECRET_ACCESS_KEY": "secret_access_key",
        "AWS_REGION": "region",
    },
    "azurite": {
        "AZURE_STORAGE_ENDPOINT": "endpoint",
        "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
        "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
    },
    "fake_gcs": {"GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key"},
}


def sections() -> dict[str, list[tuple[int, str]]]:
    """(first line, source) of the Python blocks of each section that has any."""
    text = PAGE.read_text(encoding="utf-8")
    heads = [*re.finditer(r"^## (.*)$", text, re.MULTILINE)]
    ends = [*(head.start() for head in heads[1:]), len(text)]
    found = {}
    for head, end in zip(heads, ends, strict=True):
        blocks = [(text.count("\n", 0, match.start(1)), match[1]) for match in BLOCK.finditer(text, head.start(), end)]
        if blocks:
            found[head[1]] = blocks
    return found


@pytest.mark.parametrize("section", sections())
@pytest.mark.filterwarnings("ignore::zarrant.errors.ZarrantWarning")  # the page says what they say
def test_the_examples_of_a_section_run(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    blocks = sections()[section]
    every = "".join(source for _, source in blocks)
    for name in LIBRARIES:
        if f"import {name}\n" in every or "://zarrant" in every:
            pytest.importorskip(name)
    for mark, fixture in SERVERS.items():
        if mark in every:
            server = request.getfixturevalue(fixture)  # skips, and says what to install
            offer(monkeypatch, fixture, server)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for line, source in blocks:
        # The blank lines make a traceback name the line in the page.
        exec(compile("\n" * line + source, str(PAGE), "exec"), namespace)


def offer(monkeypatch: pytest.MonkeyPatch, fixture: str, server: Server | str) -> None:
    """Name a server in the environment."""
    if isinstance(server, str):
        pytest.importorskip("redis")
        monkeypatch.setenv("REDIS_URL", server)
        return
    for variable, option in VARIABLES[fixture].items():
        monkeypatch.setenv(variable, server.storage_options[option])


def test_every_kind_of_store_is_shown() -> None:
    found = sections()
    assert len(found) >= 12 and len(found["Adapters"]) >= 6
    every = "".join(source for blocks in found.values() for _, source in blocks)
    assert [mark for mark in (*SERVERS, "http://", "ZipStore", "fsspec", "as_zarr_store") if mark not in every] == []
