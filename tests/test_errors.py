from __future__ import annotations

import copy
import errno
import pickle
from typing import Any

import pytest

from zarrant import errors

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.ZarrantError)]
BUILTINS = {
    "ShapeError": ValueError, "DataTypeError": TypeError, "BoundsError": IndexError, "SelectionError": IndexError,
    "SliceStepError": ValueError, "FrozenAttributeError": AttributeError,
    "OptionError": ValueError,
    "CapabilityError": TypeError, "NodeExistsError": FileExistsError, "NodeNotFoundError": FileNotFoundError,
    "MetadataError": ValueError,
    "UnknownExtensionError": ValueError, "ChunkError": ValueError, "ChunkMissingError": KeyError, "LimitError": ValueError,
    "StoreError": OSError, "StorePermissionError": PermissionError, "LockTimeout": TimeoutError, "ConflictError": OSError,
}  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error(cls: type[errors.ZarrantError]) -> None:
    error = cls("it broke", key="a/c/0", chunk=(0,), expected=1, got=2, hint="Mend it")
    text = str(error)
    for part in ("it broke", "a/c/0", "(0,)", "expected 1", "got 2", "Mend it"):
        assert part in text
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is cls
        assert (str(other), other.key, other.chunk, other.got) == (text, "a/c/0", (0,), 2)
    assert cls.__doc__
    with pytest.raises(TypeError, match="colour"):
        cls("x", colour="red")


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_what_users_catch(name: str, builtin: type) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_blame_and_retry() -> None:
    assert {cls.blame for cls in CLASSES if issubclass(cls, errors.CallerError)} == {"caller"}
    assert {cls.blame for cls in CLASSES if issubclass(cls, errors.DataError)} == {"data"}
    assert {cls.blame for cls in CLASSES if issubclass(cls, errors.StoreError)} == {"store"}
    assert {cls.__name__ for cls in CLASSES if cls.retryable} == {
        *("VersionChangedError", "MetadataChangedError", "ConflictError", "LostUpdateError", "LockTimeout", "LockLostError")
    }


def test_annotating_never_overwrites() -> None:
    error = errors.ChunkError("x", key="a").annotate(key="b", chunk=(1,))
    assert (error.key, error.chunk) == ("a", (1,))
    assert error.annotate(chunk=(2,)).chunk == (1,)


def test_long_facts_are_cut() -> None:
    assert len(str(errors.ShapeError("x", got="y" * 10_000))) < 300


def test_partial_failures() -> None:
    causes = {(i, 0): errors.LockTimeout("waited", key=f"c/{i}/0") for i in range(5)}
    error = errors.PartialFailure("writing 7 chunks", failed=causes, stored=[(5, 0), (6, 0)], path="x")
    assert (error.blame, error.retryable, error.__cause__) == ("store", True, causes[(0, 0)])
    text = str(error)
    for part in ("5 chunk(s) failed", "2 stored", "(0, 0): waited", "and 2 more", "path x"):
        assert part in text
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), list(again.failed), again.stored, again.retryable) == (text, list(causes), [(5, 0), (6, 0)], True)
    mixed = errors.PartialFailure("x", failed={(0,): errors.LockTimeout("a"), (1,): errors.ChunkError("b")})
    assert not mixed.retryable
    assert not errors.PartialFailure().retryable


FAILURES = [
    ("a full disk", [errors.StoreFullError, errors.StoreFullError], (errors.StoreFullError, OSError), TimeoutError),
    ("time-outs", [errors.LockTimeout] * 3, (errors.LockTimeout, TimeoutError, OSError), errors.StoreFullError),
    ("two failures of a store", [errors.LockTimeout, errors.StoreFullError], (errors.StoreError, OSError), TimeoutError),
    ("corrupt chunks", [errors.ChunkError, errors.ChunkError], (errors.ChunkError, ValueError), KeyError),
    ("missing chunks", [errors.ChunkMissingError] * 2, (errors.ChunkMissingError, errors.DataError, KeyError), ValueError),
    ("chunks missing and corrupt", [errors.ChunkMissingError, errors.ChunkError], (errors.DataError,), (KeyError, ValueError)),
    ("a value error of ours and one of the caller", [errors.ChunkError, ValueError], (ValueError,), errors.DataError),
    ("lookups", [IndexError, KeyError], (LookupError,), (IndexError, KeyError)),
    ("attributes", [AttributeError, AttributeError], (AttributeError,), OSError),
    ("nothing in common", [errors.ChunkError, errors.StoreError], (errors.PartialFailure,), (ValueError, OSError)),
]  # fmt: skip


@pytest.mark.parametrize(("kinds", "shared", "not_shared"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_a_partial_failure_is_of_the_class_that_its_causes_share(
    kinds: list[type], shared: tuple[type, ...], not_shared: Any
) -> None:
    error = errors.PartialFailure("writing", failed={(i,): kind("x") for i, kind in enumerate(kinds)}, stored=[(9,)])
    for found in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(found, errors.PartialFailure)
        for kind in shared:
            assert isinstance(found, kind), kind
        assert not isinstance(found, not_shared)
        assert (str(found), found.stored, list(found.failed)) == (str(error), [(9,)], [(i,) for i in range(len(kinds))])
        assert type(found).__name__ == "PartialFailure"


def test_classes_of_the_caller_are_not_taken_into_a_partial_failure() -> None:
    class Mine(ValueError):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one, two)

    class Text(ValueError):
        pass

    assert isinstance(errors.PartialFailure(failed={(0,): Mine(1, 2), (1,): Mine(3, 4)}), ValueError)
    undecodable = UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")
    assert isinstance(errors.PartialFailure(failed={(0,): undecodable, (1,): undecodable}), ValueError)
    inner = errors.PartialFailure(failed={(0,): errors.LockTimeout("a"), (1,): errors.LockTimeout("b")})
    assert isinstance(errors.PartialFailure(failed={(0,): inner, (1,): errors.LockTimeout("c")}), TimeoutError)


def test_hints_name_the_nearest_word() -> None:
    assert errors.did_you_mean("Shapes", ["shape", "chunks"]) == "Did you mean 'shape'?"
    assert errors.did_you_mean("xyzzy", ["shape", "chunks"]) is None


def test_the_number_of_the_system_stays() -> None:
    full = [errors.StoreFullError("full", key=f"c/{i}") for i in range(2)]
    for error in full:
        error.errno = errno.ENOSPC
    denied = errors.StorePermissionError("denied")
    denied.errno = errno.EACCES
    alike = errors.PartialFailure(failed={(0,): full[0], (1,): full[1]})
    mixed = errors.PartialFailure(failed={(0,): full[0], (1,): denied})
    for error, number in [(full[0], errno.ENOSPC), (alike, errno.ENOSPC), (mixed, None), (errors.StoreError("x"), None)]:
        for found in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert isinstance(found, OSError)
            assert found.errno == number
            assert str(found) == str(error)
