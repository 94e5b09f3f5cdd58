"""A turn: what the metadata of an array say while somebody changes its shape by compare-and-swap (`ops/turns.py`).

It is a member of its own in the main object, `"zarrant_turn": {"must_understand": false, …}`: zarr-python, TensorStore, zarrs and
zarrista open arrays of both versions with it. It belongs to the stored object, not to the array: it is read and written with the
metadata, but is no part of what they are (`to_json`, equality), so that no copy of an array has one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Self

NAME = "zarrant_turn"

MAX_SECONDS = 600.0
"""Nobody waits longer than this for a beat, whatever is stored."""


_RECORD = re.compile(r"(\.\./)+__append\.[0-9a-f]{1,64}\.json")


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is (`token`), the number of its last beat, and after how many seconds without one others may take it over.

    `record`: the path, from the array, of what is known of an append to several arrays (`ops/append_record.py`). `creates`: the
    array is being made, and has no rows yet (`ops/create.py`).
    """

    token: str
    beat: int = 0
    seconds: float = 30.0
    record: str | None = None
    creates: bool = False

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read a turn; anything that is none in form is somebody's turn all the same, and is waited for as such.

        >>> Turn.from_json({"must_understand": False, "token": "ab", "beat": 3, "seconds": 5})
        Turn(token='ab', beat=3, seconds=5.0)
        """
        match value:
            case {"token": str(token), "beat": int(beat), "seconds": int() | float() as seconds} if 0 <= seconds <= MAX_SECONDS:
                record = value.get("record")
                if record is None or (isinstance(record, str) and _RECORD.fullmatch(record)):
                    return cls(token, beat, float(seconds), record, value.get("creates") is True)
        return cls(json.dumps(value, sort_keys=True))

    def to_json(self) -> dict[str, Any]:
        """The form in which it is stored."""
        value = {"must_understand": False, "token": self.token, "beat": self.beat, "seconds": self.seconds}
        return value | ({} if self.record is None else {"record": self.record}) | ({"creates": True} if self.creates else {})
