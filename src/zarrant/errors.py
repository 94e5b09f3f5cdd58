"""The error tree: whose fault, then which one.

A catcher asks two questions: may I retry, and who must act. The first layer answers the second question:

    ZarrantError
    ├── CallerError            the call is wrong; the same call fails again
    │   ├── ShapeError (ValueError)          shapes or lengths that do not fit
    │   ├── DataTypeError (TypeError)        data of a type the array cannot hold without loss
    │   ├── BoundsError (IndexError)         indices or regions outside the array, grid or chunk
    │   ├── SelectionError (IndexError)      an index that is not understood
    │   │   └── SliceStepError (ValueError)      a slice that steps by zero
    │   ├── FrozenAttributeError (AttributeError)    an attribute that cannot be set
    │   ├── OptionError (ValueError)         unknown or impossible options, modes, names
    │   ├── CapabilityError (TypeError)      the store cannot do what the operation needs
    │   ├── ReentrantLockError (RuntimeError) the caller waits for a lock that it has itself
    │   ├── NodeExistsError (FileExistsError)
    │   └── NodeNotFoundError (FileNotFoundError, KeyError)
    │       └── NodeReplacedError            another node is where this handle's was
    ├── DataError              what is stored is wrong; other chunks may be right
    │   ├── MetadataError (ValueError)
    │   │   └── UnknownExtensionError        a codec, data type, grid ... that is not known here
    │   ├── ChunkError (ValueError)          a chunk that cannot be decoded
    │   ├── ChunkMissingError (KeyError)     an absent chunk under missing_chunks="error"
    │   ├── ArchiveError (ValueError)        a zip archive that is damaged, or that cannot be read safely
    │   └── LimitError (ValueError)          input beyond a safety limit
    ├── StoreError (OSError)   the store failed; see `retryable`
    │   ├── StorePermissionError (PermissionError)
    │   ├── StoreFullError                   no space, quota
    │   ├── ByteRangeError                   an object shorter than the range asked for
    │   ├── VersionChangedError              the object was replaced between two steps (retryable)
    │   ├── MetadataChangedError             a node's metadata changed before one of its objects was stored (retryable)
    │   ├── ConflictError                    compare-and-swap lost too often (retryable)
    │   ├── LostUpdateError                  an update would have undone another's, under synchronizer=None (retryable)
    │   ├── LockTimeout (TimeoutError)       (retryable)
    │   └── LockLostError                    a lock that ended before the write (retryable)
    └── PartialFailure         an operation over many chunks: some stored, some not; also of the class that all causes share

Facts are fields; the sentence is built in `__str__`. An error is annotated with store, key and chunk once, where they are
known (`annotate` never overwrites).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self, cast

FIELDS = ("store", "key", "chunk", "codec", "path", "field", "expected", "got", "limit", "hint")


def shown(value: object) -> str:
    """`repr` of anything a caller or a document may give: also of integers that Python refuses to print."""
    try:
        return repr(value)
    except ValueError:  # more digits than sys.set_int_max_str_digits allows, here or inside of a list
        return f"<{type(value).__name__} with a number too long to show>"


def _shown(value: object) -> str:
    try:
        text = str(value)
    except ValueError:
        text = shown(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


class ZarrantError(Exception):
    """Root of every error raised on purpose.

    `message` says what happened; every fact is a field (`store`, `key`, `chunk`, `codec`, `path`, `field`, `expected`,
    `got`, `limit`, `hint`), None where it does not apply. `retryable` says whether the same call may succeed later.
    """

    blame: ClassVar[str] = "unknown"
    retryable: bool = False

    store: str | None
    key: str | None
    chunk: tuple[int, ...] | None
    codec: str | None
    path: str | None
    field: str | None
    expected: object
    got: object
    limit: object
    hint: str | None

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        for name in FIELDS:
            setattr(self, name, fields.pop(name, None))
        if fields:
            raise TypeError(f"unknown error fields: {sorted(fields)}")

    def annotate(self, **fields: Any) -> Self:
        """Fill fields that are still unknown; what is known stays."""
        for name, value in fields.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        return self

    def __str__(self) -> str:
        where = ", ".join(
            f"{name} {_shown(getattr(self, name))}"
            for name in ("store", "key", "chunk", "codec", "path", "field")
            if getattr(self, name) is not None
        )
        facts = "; ".join(
            f"{name} {_shown(getattr(self, name))}" for name in ("expected", "got", "limit") if getattr(self, name) is not None
        )
        text = self.message
        if facts:
            text += f": {facts}" if text else facts
        if where:
            text += f" ({where})"
        if self.hint:
            text += f". {self.hint}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, {name: getattr(self, name) for name in FIELDS})


def _rebuild(cls: type[ZarrantError], message: str, fields: dict[str, Any]) -> ZarrantError:
    return cls(message, **fields)


class CallerError(ZarrantError):
    """The call is wrong; nothing was written."""

    blame = "caller"


class ShapeError(CallerError, ValueError):
    """Data, chunk or array shapes that do not fit each other."""


class DataTypeError(CallerError, TypeError):
    """Data of a kind that cannot become the array's, or with a value that the array's type cannot hold."""


class BoundsError(CallerError, IndexError):
    """Indices or a region outside of the array, the chunk grid or the chunk."""


class SelectionError(CallerError, IndexError):
    """An index expression that is not understood (newaxis, floats, too many indices)."""


class SliceStepError(SelectionError, ValueError):
    """A slice that steps by zero: NumPy and lists raise ValueError for it."""


class FrozenAttributeError(CallerError, AttributeError):
    """An attribute of a handle that cannot be set, or that it does not have: setting it would change nothing."""


class OptionError(CallerError, ValueError):
    """An unknown option, or a value it cannot take."""


class CapabilityError(CallerError, TypeError):
    """The store lacks what the operation needs; `expected` names the capability."""


class ReentrantLockError(CallerError, RuntimeError):
    """The caller asked, through another handle, for a lock that it has itself: it would wait for ever."""


class NodeExistsError(CallerError, FileExistsError):
    """An array or group is there already."""


class NodeNotFoundError(CallerError, FileNotFoundError, KeyError):
    """No array or group where one was expected. A KeyError as well, since a group is a mapping of names to nodes."""


class NodeReplacedError(NodeNotFoundError):
    """The node that this handle was opened on was replaced by another one; nothing was written. Open it again."""


class DataError(ZarrantError):
    """What is stored is wrong."""

    blame = "data"


class MetadataError(DataError, ValueError):
    """A metadata document that breaks the specification; `path` is the JSON path."""


class UnknownExtensionError(MetadataError):
    """A codec, data type, grid or key encoding that is not known; `got` names it, `expected` lists the known ones."""


class ChunkError(DataError, ValueError):
    """A chunk, or a part of a shard, that cannot be decoded; other chunks stay readable."""


class ChunkMissingError(DataError, KeyError):
    """A chunk that is not stored, under `missing_chunks="error"`."""

    __str__ = ZarrantError.__str__


class ArchiveError(DataError, ValueError):
    """A zip archive that is damaged, that cannot be read safely (entries that overlap, sizes that cannot be), or not here."""


class LimitError(DataError, ValueError):
    """Input beyond a safety limit; `field`, `got` and `limit` say which."""


class StoreError(ZarrantError, OSError):
    """The store failed; the cause is chained. `errno` is the system's number, where the store is of the system."""

    blame = "store"

    def __reduce__(self) -> tuple[Any, ...]:
        reduced = super().__reduce__()
        return reduced if self.errno is None else (*reduced, {"errno": self.errno})


class StorePermissionError(StoreError, PermissionError):
    """The store refused for want of a permission."""


class StoreFullError(StoreError):
    """No space or quota left."""


class ByteRangeError(StoreError):
    """An object is shorter than the byte range asked for."""


class VersionChangedError(StoreError):
    """The object was replaced since its version was read."""

    retryable = True


class MetadataChangedError(StoreError):
    """The metadata of a node is no longer of the version on condition of which an object was to be stored; it was not stored.

    Operations look at the metadata again and go on where it still describes the same array: users see it only where
    the metadata changes faster than it can be read.
    """

    retryable = True


class ConflictError(StoreError):
    """Compare-and-swap lost against other writers in every try."""

    retryable = True


class LostUpdateError(StoreError):
    """The object was replaced between the read and the write of an update that nothing guards; the update was not stored.

    Raised under `synchronizer=None` only, where it is seen: a writer that comes in the very last moment is not.
    """

    retryable = True


class LockTimeout(StoreError, TimeoutError):
    """A lock was not granted before the deadline."""

    retryable = True


class LockLostError(StoreError):
    """A lock that a service had granted for a limited time ended before the write under it; `zarrant.locking.remote`.

    The write was not stored, unless the message says that it is not known: then another writer's change may have been replaced.
    """

    retryable = True


class ZarrantWarning(UserWarning):
    """Something was asked for that can cost data."""


class PartialFailure(ZarrantError):
    """Some chunks of an operation failed.

    `failed` maps chunk indices to the error of each; `stored` lists the chunks whose write was completed. `blame` and
    `retryable` are those of the first failure, which is also the `__cause__`. It is also an instance of the class that all
    failures share: `except TimeoutError` catches a LockTimeout of one chunk and of many.

    >>> error = PartialFailure(failed={(0,): LockTimeout("waited"), (1,): StoreFullError("full")})
    >>> isinstance(error, OSError), isinstance(error, TimeoutError)
    (True, False)
    """

    def __new__(cls, message: str = "", *, failed: Mapping[tuple[int, ...], Exception] | None = None, **fields: Any) -> Self:
        """An instance of a class made of this one and of what the failures share."""
        shared = _shared([type(error) for error in (failed or {}).values()])
        kind: type = _also(cast("Any", cls), shared) if shared else cls
        # Each builtin family (OSError, AttributeError, ...) allocates its own instances.
        allocate = next(base.__new__ for base in kind.__mro__ if base.__module__ == "builtins")
        return cast("Self", allocate(kind, message))

    def __init__(
        self,
        message: str = "",
        *,
        failed: Mapping[tuple[int, ...], Exception] | None = None,
        stored: Sequence[tuple[int, ...]] = (),
        **fields: Any,
    ) -> None:
        super().__init__(message, **fields)
        self.failed = dict(failed or {})
        self.stored = list(stored)
        first = next(iter(self.failed.values()), None)
        self.blame = getattr(first, "blame", "unknown")  # type: ignore[misc]
        self.retryable = bool(self.failed) and all(getattr(e, "retryable", False) for e in self.failed.values())
        self.__cause__ = first
        numbers = {getattr(error, "errno", None) for error in self.failed.values()}
        if isinstance(self, OSError) and len(numbers) == 1:
            self.errno = numbers.pop()

    def __str__(self) -> str:
        shown = "; ".join(f"{chunk}: {error}" for chunk, error in list(self.failed.items())[:3])
        more = f"; and {len(self.failed) - 3} more" if len(self.failed) > 3 else ""
        return f"{len(self.failed)} chunk(s) failed, {len(self.stored)} stored. {super().__str__()} {shown}{more}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: getattr(self, name) for name in FIELDS}
        return _rebuild, (PartialFailure, self.message, {"failed": self.failed, "stored": self.stored, **fields})


_OWN_ARGUMENTS = (UnicodeError, BaseExceptionGroup)
"""Builtin families with members that cannot be made from a message alone."""


def _shared(kinds: Sequence[type[Exception]]) -> tuple[type[Exception], ...]:
    """The most special classes that all of these are: our own and builtin ones, since others may want other arguments."""
    common = [
        base
        for base in (kinds[0].__mro__ if kinds else ())
        if base.__module__ in (__name__, "builtins")
        and not issubclass(base, (PartialFailure, *_OWN_ARGUMENTS))
        and issubclass(base, Exception)
        and all(issubclass(kind, base) for kind in kinds)
    ]
    special = [base for base in common if not any(base in other.__mro__[1:] for other in common)]
    return tuple(base for base in special if base not in (Exception, ZarrantError))


@cache
def _also(cls: Any, shared: tuple[type[Exception], ...]) -> Any:
    return type(
        cls.__name__, (cls, *shared), {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    )


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known word, or None where none is near.

    >>> did_you_mean("concurency", ["locking", "concurrency"])
    "Did you mean 'concurrency'?"
    """
    from difflib import get_close_matches  # only where something went wrong

    by_folded = {name.lower(): name for name in known}
    near = get_close_matches(str(word).lower(), by_folded, n=1)
    return f"Did you mean {by_folded[near[0]]!r}?" if near else None
