"""What the suite of stores asks of versions, of stores whose versions are hashes: equal bytes are of one version."""

from __future__ import annotations

from typing import Any

import pytest

from zarrant.errors import VersionChangedError
from zarrant.storage import ByteRange
from zarrant.testkit import content


class Hashed:
    """Stands before a suite."""

    def test_versions_are_never_used_again(self, store: Any) -> None:
        assert store.put("a", [b"same"]) == store.put("a", [b"same"]) != store.put("a", [b"other"])

    def test_ranges_of_a_version(self, store: Any) -> None:
        version = store.put("a", [b"abc"])
        assert content(store.get_ranges("a", [ByteRange(1)], version)) == b"bc"
        store.put("a", [b"abd"])
        with pytest.raises(VersionChangedError, match="replaced"):
            store.get_ranges("a", [ByteRange(0, 1)], version)
