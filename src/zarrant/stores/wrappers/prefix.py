"""The objects below a prefix, as a store of their own.

In: any store and a prefix. Out: `Prefix`, whose key `c/0` is `<prefix>/c/0` of the store inside, for every method: locks,
conditions, batches and listings, calls for many objects and for boxes of chunks too. No key leads out of it. Errors name the key
and the address as the caller knows them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from zarrant.errors import ZarrantError
from zarrant.storage import Blob, Buffer, FileDecoder, OnlyWhile, Part, ShareWork, Version
from zarrant.stores.keys import check_key, check_prefix
from zarrant.stores.wrappers.each_call import Call, EachCall

T = TypeVar("T")


class Prefix(EachCall):
    """What lies below `prefix` of a store, and nothing else.

    Args:
        store: Any store.
        prefix: A key, with or without "/" at its end; "" is all of the store.

    >>> from zarrant.stores.memory import MemoryStore
    >>> data = {}
    >>> store = Prefix(MemoryStore(data), "experiment/7")
    >>> version = store.put("zarr.json", [b"{}"])
    >>> list(data), list(store.list_prefix(""))
    (['experiment/7/zarr.json'], ['zarr.json'])
    """

    passes_strided_parts = True

    def __init__(self, store: object, prefix: str) -> None:
        super().__init__(store)
        self.prefix = f"{prefix.removesuffix('/')}/" if prefix else ""
        check_prefix(self.prefix, super().url)

    @property
    def url(self) -> str:
        """The address of what lies below the prefix."""
        return f"{super().url.rstrip('/')}/{self.prefix}".rstrip("/")

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (self.prefix,)

    def _key(self, key: str) -> str:
        check_key(key, self.url)
        return self.prefix + key

    def _below(self, prefix: str) -> str:
        check_prefix(prefix, self.url)
        return self.prefix + prefix

    def _names(self, keys: Iterable[str]) -> list[str]:
        """Keys or prefixes of the store inside, as the caller knows them."""
        return [key[len(self.prefix) :] for key in keys]

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        return iter(self._names(super().list_prefix(prefix)))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        keys, prefixes = super().list_dir(prefix)
        return self._names(keys), self._names(prefixes)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        return self._names(await super().list_prefix_async(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        keys, prefixes = await super().list_dir_async(prefix)
        return self._names(keys), self._names(prefixes)

    def put_all(self, items: Sequence[tuple[str, Sequence[Buffer]]]) -> list[Version | Exception]:
        """See `storage.PutAll`."""
        parts = [each for _, each in items]
        return self._each([key for key, _ in items], lambda keys: self._inside.put_all([*zip(keys, parts, strict=True)]))

    def get_all(self, keys: Sequence[str], limit: int | None) -> list[Blob | Exception | None]:
        """See `storage.GetAll`."""
        return self._each(keys, lambda keys: self._inside.get_all(keys, limit))

    def get_decoded(
        self, keys: Sequence[str], limit: int | None, decoder: FileDecoder, share: ShareWork
    ) -> list[Blob | Exception | None]:
        """See `storage.GetDecoded`."""
        return self._each(keys, lambda keys: self._inside.get_decoded(keys, limit, decoder, share))

    def get_into(self, key: str, into: memoryview, limit: int | None) -> Blob | None:
        """See `storage.GetInto`."""
        return self._perform(Call("get", key), lambda: self._inside.get_into(self._key(key), into, limit))

    def put_first(self, key: str, parts: Sequence[Part], absent: tuple[str, ...]) -> Version:
        """See `storage.PutsFirst`."""
        return self._perform(Call("put", key), lambda: self._inside.put_first(self._key(key), parts, absent))

    def update_box(self, key: str, update: Any, condition: OnlyWhile | None) -> bool:
        """See `storage.UpdatesBoxes`."""
        below = condition and condition._replace(key=self._key(condition.key))
        return self._perform(Call("update_box", key), lambda: self._inside.update_box(self._key(key), update, below))

    def list_stored(self, prefix: str, limit: int) -> list[str] | None:
        """See `storage.ListStored`."""
        found = self._perform(Call("list_prefix", prefix), lambda: self._inside.list_stored(self._below(prefix), limit))
        return found and self._names(found)

    def _each(self, keys: Sequence[str], call: Callable[[list[str]], list[Any]]) -> list[Any]:
        """A call for many objects, whose outcomes are errors where it failed."""
        names = [self._key(key) for key in keys]
        outcomes = self._perform(Call("each", ""), lambda: call(names))
        for outcome in outcomes:
            if isinstance(outcome, ZarrantError):
                self._translate(outcome)
        return outcomes

    def _translate(self, error: ZarrantError) -> None:
        """Name key and store as the caller knows them, in an error of the store inside."""
        if error.store in (None, super().url):
            error.store = self.url
            if error.key is not None:
                error.key = error.key.removeprefix(self.prefix)

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        try:
            return act()
        except ZarrantError as error:
            self._translate(error)
            raise

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await act()
        except ZarrantError as error:
            self._translate(error)
            raise
