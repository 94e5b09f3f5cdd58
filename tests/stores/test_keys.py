from __future__ import annotations

import pytest

from zarrant.errors import OptionError
from zarrant.stores.keys import check_key, check_prefix
from zarrant.testkit import BAD_KEYS, BAD_PREFIXES


@pytest.mark.parametrize("key", ["a", "a/b", "...", ".zarray", "a..b", "a./b", "é/\N{SNOWMAN}", "c.0.0", "a b", "-", "a\n"])
def test_good(key: str) -> None:
    check_key(key, "store")
    check_prefix(f"{key}/", "store")


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys(key: str) -> None:
    with pytest.raises(OptionError, match="not a key") as caught:
        check_key(key, "there")
    assert caught.value.store == "there"


@pytest.mark.parametrize("prefix", BAD_PREFIXES)
def test_bad_prefixes(prefix: str) -> None:
    with pytest.raises(OptionError):
        check_prefix(prefix, "there")


def test_no_prefix_is_a_prefix() -> None:
    check_prefix("", "store")
