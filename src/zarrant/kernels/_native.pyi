from collections.abc import Callable
from typing import Any

def features() -> dict[str, bool]: ...
def libraries() -> dict[str, str]: ...
def copy_boxes(src: Any, src_start: Any, src_step: Any, dst: Any, dst_start: Any, dst_step: Any, shape: Any, /) -> None: ...
def equals_fill(rows: Any, fill: bytes, result: Any, /) -> None: ...
def encoded_bound(program: tuple[tuple[int, ...], ...], size: int, /) -> int: ...
def encode(program: tuple[tuple[int, ...], ...], rows: Any, keep: Any, arena: Any, sizes: Any, /) -> int: ...
def decode(
    program: tuple[tuple[int, ...], ...], buffers: Any, which: Any, offset: Any, size: Any, rows: Any, check: bool, /
) -> list[tuple[int, int, str]]: ...
def encode_boxes(
    program: tuple[tuple[int, ...], ...],
    values: Any,
    boxes: tuple[Any, ...],
    old: tuple[Any, ...] | None,
    flat: Any,
    seen: Any,
    covered: Any,
    fill: bytes,
    drop: bool,
    check: bool,
    arena: Any,
    sizes: Any,
    /,
) -> tuple[int, list[tuple[int, int, str]]]: ...
def decode_boxes(
    program: tuple[tuple[int, ...], ...],
    spans: tuple[Any, ...],
    count: int,
    flat: Any,
    seen: Any,
    boxes: tuple[Any, ...],
    out: Any,
    fill: bytes,
    check: bool,
    /,
) -> list[tuple[int, int, str]]: ...

class ReadBoxes:
    def __init__(
        self,
        paths: list[str],
        limit: int,
        program: tuple[tuple[int, ...], ...],
        flat: Any,
        seen: Any,
        boxes: tuple[Any, ...],
        out: Any,
        fill: bytes,
        check: bool,
        /,
    ) -> None: ...
    def work(self) -> None: ...
    def versions(self) -> list[tuple[int, int, int, int] | bool | None]: ...

class ReadShards:
    def __init__(
        self,
        shards: list[Any],
        edge: tuple[int, ...],
        grid: tuple[int, ...],
        limit: int,
        program: tuple[tuple[int, ...], ...],
        flat: Any,
        seen: Any,
        out: Any,
        fill: bytes,
        check: bool,
        /,
    ) -> None: ...
    def work(self) -> None: ...
    def versions(self) -> list[tuple[int, int, int, int] | None]: ...

class ReadKept:
    def __init__(self, objects: list[Any], edge: tuple[int, ...], out: Any, fill: bytes, by_name: bool, /) -> None: ...
    def work(self) -> None: ...
    def versions(self) -> list[tuple[int, int, int, int] | None]: ...

def valid_index(table: Any, start: int, stop: int, /) -> bool: ...
def plan_box(
    start: tuple[int, ...],
    count: tuple[int, ...],
    value: tuple[int, ...],
    edge: tuple[int, ...],
    grid: tuple[int, ...],
    offset: Any,
    size: Any,
    limit: int,
    first: int,
    boxes: Any,
    spans: Any,
    /,
) -> tuple[int, list[tuple[int, int]]] | None: ...
def decompress(step: tuple[int, ...], data: Any, place: Any, /) -> int: ...
def pack(buffers: Any, which: Any, offset: Any, size: Any, allocate: Any, /) -> Any: ...
def encode_texts(array: Any, /) -> bytes: ...
def decode_texts(data: Any, out: Any, /) -> None: ...
def encode_runs(array: Any, /) -> bytes: ...
def decode_runs(data: Any, out: Any, /) -> None: ...
def crc32c(data: Any, value: int, /) -> int: ...
def put_file(
    path: str,
    parts: Any,
    condition: Any,
    if_version: Any,
    device: int,
    share: int,
    held: int,
    must_replace: bool,
    release: bool,
    trial: Any,
    /,
) -> tuple[tuple[int, int, int, int], int] | None: ...
def put_files(
    directory: str, files: list[Any], condition: Any, device: int, share: int, most: int, done: list[Any], trial: Any, /
) -> None: ...
def read_files(paths: list[str], limit: int, held: bool, allocate: Callable[[int], Any], trial: Any, /) -> list[Any]: ...
def read_into(path: str, into: Any, trial: Any, /) -> Any: ...
def look_at_files(paths: list[str], /) -> list[tuple[int, int, int, int] | bool | None]: ...
def read_ranges(path: str, ranges: Any, version: Any, held: bool, allocate: Callable[[int], Any], trial: Any, /) -> Any: ...
