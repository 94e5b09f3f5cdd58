"""The short names of `zarrant` for coroutines, as `zarr.api.asynchronous` has them: `await zarrant.asynchronous.zeros(3)`.

Each takes what the name of `zarrant` takes, and gives an `AsyncArray`: see there. `open` and `create_array` are
`zarrant.open_async` and `zarrant.create_array_async`.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.async_group import AsyncGroup
from zarrant.nodes.open import Where, create_array_async, open_async
from zarrant.nodes.shortcuts import ShortOptions, filled, given, like, required
from zarrant.nodes.signatures import spelled_out
from zarrant.stores.memory import MemoryStore

__all__ = ["array", "empty", "empty_like", "full", "full_like", "load", "ones", "ones_like", "zeros", "zeros_like"]


async def _new(store: Any, **options: Any) -> AsyncArray[Any]:
    return await create_array_async(MemoryStore() if store is None else store, **given(options))


@spelled_out(ShortOptions)
async def full(
    shape: Any, fill_value: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]
) -> AsyncArray[Any]:
    """See `zarrant.full`."""
    return await _new(store, **filled(shape, fill_value, dtype), **options)


@spelled_out(ShortOptions)
async def zeros(shape: Any, *, store: Any = None, dtype: Any = "float64", **options: Unpack[ShortOptions]) -> AsyncArray[Any]:
    """See `zarrant.zeros`."""
    return await _new(store, shape=shape, dtype=dtype, **options)


empty = zeros


@spelled_out(ShortOptions)
async def ones(shape: Any, *, store: Any = None, dtype: Any = "float64", **options: Unpack[ShortOptions]) -> AsyncArray[Any]:
    """See `zarrant.ones`."""
    return await _new(store, shape=shape, dtype=dtype, fill_value=1, **options)


@spelled_out(ShortOptions)
async def array(
    data: Any, *, store: Any = None, dtype: Any = None, fill_value: Any = None, **options: Unpack[ShortOptions]
) -> AsyncArray[Any]:
    """See `zarrant.array`."""
    return await _new(store, data=required(data), dtype=dtype, fill_value=fill_value, **options)


@spelled_out(ShortOptions)
async def full_like(
    a: Any, fill_value: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]
) -> AsyncArray[Any]:
    """See `zarrant.full_like`."""
    return await _new(store, **like(a, dtype, fill_value=fill_value, **options))


@spelled_out(ShortOptions)
async def zeros_like(a: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> AsyncArray[Any]:
    """See `zarrant.zeros_like`."""
    return await _new(store, **like(a, dtype, fill_value=None, **options))


@spelled_out(ShortOptions)
async def ones_like(a: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> AsyncArray[Any]:
    """See `zarrant.ones_like`."""
    return await _new(store, **like(a, dtype, fill_value=1, **options))


@spelled_out(ShortOptions)
async def empty_like(a: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> AsyncArray[Any]:
    """See `zarrant.empty_like`."""
    return await _new(store, **like(a, dtype, **options))


@spelled_out(Where)
async def load(store: Any, **where: Unpack[Where]) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """See `zarrant.load`."""
    node = await open_async(store, mode="r", **where)
    if isinstance(node, AsyncArray):
        return await node.retrieve_array_subset(...)
    return await _values(node, "")


async def _values(group: AsyncGroup[Any], prefix: str) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, npt.NDArray[Any]] = {}
    for name, member in (await group.members()).items():
        if isinstance(member, AsyncGroup):
            found |= await _values(member, f"{prefix}{name}/")
        else:
            again: Any = await group.getitem(name)  # one that cannot be opened says why
            found[f"{prefix}{name}"] = await again.retrieve_array_subset(...)
    return found
