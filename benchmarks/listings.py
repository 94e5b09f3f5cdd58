"""`python -m benchmarks.listings`: a group of very many arrays, and an array of very many attributes.

In comes how many; out goes a table beside zarr-python, which reads the same files: the names in a group, their number, all arrays
opened, one of them opened by its name, and metadata with many attributes.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zarrant
from benchmarks.arguments import positive, program
from benchmarks.pairs import Found, Pair, compare, table

ALIKE = {"shape": (100, 100), "chunks": (10, 10), "dtype": "uint16"}


def measure(folder: Path, arrays: int, attributes: int, rounds: int) -> list[Found]:
    """Times of both libraries."""
    import zarr

    group = zarrant.create_group(folder / "group")
    for number in range(arrays):
        group.create_array(f"a{number}", attributes={"number": number}, **ALIKE)
    many: dict[str, Any] = {f"key{number}": {"value": number, "text": "x" * 10} for number in range(attributes)}
    zarrant.create_array(folder / "attributes", attributes=many, **ALIKE)
    theirs = zarr.open_group(folder / "group", mode="r")
    names, last = {f"a{number}" for number in range(arrays)}, f"a{arrays - 1}"

    def all_named(found: Any) -> bool:
        return set(found) == names

    def all_right(found: Any) -> bool:
        return len(found) == arrays and all(name == f"a{array.attrs['number']}" for name, array in dict(found).items())

    def is_last(array: Any) -> bool:
        return bool(array.attrs["number"] == arrays - 1)

    def has_all(array: Any) -> bool:
        return dict(array.attrs) == many

    def counted(number: Any) -> bool:
        return bool(number == arrays)

    def opened(group: Any) -> Any:
        return group[last]

    of, path, one = f"{arrays} arrays", folder / "group", folder / "attributes"
    return compare(
        [
            Pair(f"{of}: list", lambda: list(group), lambda: list(theirs), all_named, all_named),
            Pair(f"{of}: count", lambda: len(group), theirs.nmembers, counted, counted),
            Pair(f"{of}: open all", group.members, lambda: dict(theirs.members()), all_right, all_right),
            Pair(
                f"{of}: open one of them",
                lambda: opened(zarrant.open_group(path, mode="r")),
                lambda: opened(zarr.open_group(path, mode="r")),
                is_last,
                is_last,
            ),
            Pair(
                f"open with {attributes} attributes",
                lambda: zarrant.open_array(one, mode="r"),
                lambda: zarr.open_array(one, mode="r"),
                has_all,
                has_all,
            ),
        ],
        rounds,
        "zarr-python",
    )


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print, and remove what was made."""
    parser = program("benchmarks.listings", "Very many arrays, very many attributes.", rounds=5)
    parser.add_argument("--arrays", type=positive, default=2000, help="in the group (default %(default)s)")
    parser.add_argument("--attributes", type=positive, default=10_000, help="of one array (default %(default)s)")
    given = parser.parse_args(args)
    with tempfile.TemporaryDirectory(dir=given.dir) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measure(Path(folder), given.arrays, given.attributes, given.rounds)
    print(table(found, "zarr-python"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
