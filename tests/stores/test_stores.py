"""What `zarrant.stores` and `zarrant.locking` give by their names."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import zarrant.locking
import zarrant.stores


@pytest.mark.parametrize("package", [zarrant.stores, zarrant.locking], ids=lambda package: package.__name__)
def test_every_name_is_there(package: Any) -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        if name in ("ZarrStore", "as_zarr_store"):
            pytest.importorskip("zarr")
        assert inspect.getdoc(getattr(package, name))


@pytest.mark.parametrize("package", [zarrant.stores, zarrant.locking], ids=lambda package: package.__name__)
def test_another_name_is_an_error(package: Any) -> None:
    with pytest.raises(AttributeError, match="'S3Store'"):
        _ = package.S3Store
