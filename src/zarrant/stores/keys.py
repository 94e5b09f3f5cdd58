"""Which keys a store takes.

In: a key or prefix as a caller gave it. Out: nothing, or OptionError naming it. A key is relative and `/`-separated, without
empty, `.` or `..` parts and without NUL, so that no key, also one built from hostile metadata, can leave the store's root.
"""

from __future__ import annotations

import os
import re

from zarrant.errors import OptionError

_BAD = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|\0")
_WINDOWS = os.sep == "\\"

is_doubtful = re.compile(r"[^A-Za-z0-9/._-]|(?:^|/)(?:[./]|\Z)|\.__|\Z(?<![A-Za-z0-9])").search
"""Whether a key needs a closer look (a match): not only letters, digits and dots, a part that begins with a dot, a reserved name.

Nearly no key does: this is the first question, asked several times for each write.

>>> [key for key in ("a/c/0/1", "a/zarr.json", "a/../b", "a/.zarray", "c/0.__lock") if is_doubtful(key)]
['a/../b', 'a/.zarray', 'c/0.__lock']
"""

are_doubtful = re.compile(r"[^A-Za-z0-9/._-]|(?:^|/)(?:[./]|\Z)|\.__|[._-](?:/|\Z)").search
"""`is_doubtful` of many keys, joined by slashes: a match where it is one of any of them, or where a part of one ends as no key may.

>>> bool(are_doubtful("/".join(["c/0/1", "c/0/2"]))), bool(are_doubtful("/".join(["c/0/1", "", "c/0/2"])))
(False, True)
"""


def check_key(key: str, store: str) -> None:
    """Refuse what is not a key.

    >>> check_key("c/0/1", "here")
    >>> check_key("c/../x", "here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    zarrant.errors.OptionError: not a key: ...
    """
    if _BAD.search(key) or (_WINDOWS and ("\\" in key or ":" in key)):
        raise OptionError("not a key", store=store, key=key, expected="relative, without empty, '.' or '..' parts", got=repr(key))
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as cause:
            raise OptionError("not a key", store=store, key=repr(key), expected="text that UTF-8 can hold") from cause


def check_prefix(prefix: str, store: str) -> None:
    """Refuse what is not a prefix: "" or a key and "/"."""
    if prefix == "":
        return
    if not prefix.endswith("/"):
        raise OptionError("not a prefix", store=store, expected='"" or ending with "/"', got=repr(prefix))
    check_key(prefix[:-1], store)
