from __future__ import annotations

import copy
import pickle

import pytest

from zarrant import errors

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.ZarrantError)]
BUILTINS = {
    "ShapeError": ValueError, "DataTypeError": TypeError, "BoundsError": IndexError, "SelectionError": IndexError,
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
        *("VersionChangedError", "ConflictError", "LostUpdateError", "LockTimeout")
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
