"""What went wrong at an object store: errors of obstore (or whoever implements obspec) as ours.

In: an exception, known by the name of its class, as obspec wants it, or by its text: obstore has no class for an answer of
5xx, a host that cannot be reached, or a bucket that is not there. Out: a `Kind`, which says what to do next, and the typed
error, with the place, the key and a hint. No secret of the caller's options gets into its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from zarrant.errors import ByteRangeError, CapabilityError, StoreError, StorePermissionError, VersionChangedError, ZarrantError


class Kind(Enum):
    """What to do next."""

    ABSENT = "there is no object"
    CONFLICT = "the condition did not hold"
    REFUSED = "not allowed"
    UNSUPPORTED = "the service cannot do this"
    OUTSIDE = "the range is outside of the object"
    NO_RANGES = "the server sends whole objects only"
    PASSING = "may succeed later"
    FAILED = "failed"


_BY_NAME = {
    "FileNotFoundError": Kind.ABSENT,
    "NotFoundError": Kind.ABSENT,
    "AlreadyExistsError": Kind.CONFLICT,
    "PreconditionError": Kind.CONFLICT,
    "PermissionDeniedError": Kind.REFUSED,
    "PermissionError": Kind.REFUSED,
    "UnauthenticatedError": Kind.REFUSED,
    "NotSupportedError": Kind.UNSUPPORTED,
    "NotImplementedError": Kind.UNSUPPORTED,
    "TimeoutError": Kind.PASSING,
    "ConnectionError": Kind.PASSING,
}


class _Sign(NamedTuple):
    """What in a text tells a failure; `hint` says what can be done."""

    pattern: re.Pattern[str]
    kind: Kind
    hint: str


def _sign(pattern: str, kind: Kind, hint: str) -> _Sign:
    return _Sign(re.compile(pattern, re.IGNORECASE), kind, hint)


# In order: the first that fits.
_SIGNS = (
    _sign(
        r"NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist",
        Kind.FAILED,
        "The bucket (container) is not there: make it, or look at its name and at `endpoint`",
    ),
    _sign(
        r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|\b301\b|without LOCATION",
        Kind.FAILED,
        "The bucket is in another region: give its `region` in storage_options",
    ),
    _sign(
        r"certificate|\btls\b|\bssl\b|UnknownIssuer|InvalidContentType",
        Kind.FAILED,
        "Look at the address (https or http?), and at `root_certificate` in client_options",
    ),
    _sign(r"non-partial|Range request not supported", Kind.NO_RANGES, "The server does not send parts of objects"),
    _sign(r"\b416\b|Invalid ?Range", Kind.OUTSIDE, "The object is shorter than it was"),
    _sign(r"NotImplemented|\b501\b|\b405\b", Kind.UNSUPPORTED, "The service does not have this"),
    _sign(r"\b429\b|SlowDown|\b503\b|TooManyRequests|ServerBusy", Kind.PASSING, "Too many requests: use less `concurrency`"),
    _sign(
        r"dns error|failed to lookup|connection refused|tcp connect|error trying to connect",
        Kind.PASSING,
        "The host cannot be reached: look at `endpoint`, the network and the proxy",
    ),
    _sign(
        r"allow_http|URL scheme is not allowed",
        Kind.FAILED,
        'An address of http:// needs client_options={"allow_http": True}',
    ),
    _sign(
        r"credential|169\.254\.|metadata token|identity",
        Kind.REFUSED,
        "No credentials were found: give them in storage_options or in the environment, or skip_signature=True for public data",
    ),
    _sign(r"\b(500|502|504|408|409)\b|InternalError|OperationAborted", Kind.PASSING, "The service failed: do it again later"),
    _sign(
        r"timed? ?out|error sending request|connection|decoding|incomplete|end of file|unexpected eof|body|HTTP error",
        Kind.PASSING,
        "The connection failed: do it again later, or raise `timeout` in client_options",
    ),
)
_REFUSED = "Look at the credentials and at what they allow. S3 also says so of an absent key to who may not list the bucket"
_SECRET = re.compile(
    r"(?i)((?:x-amz-(?:signature|credential|security-token)|sig|token|secret|password|authorization|access_key)=)[^&\s\"']+"
)
_ADDRESS = re.compile(r"\w+://[^\s\"']+|path: \"[^\"]*\"")
_LONGEST = 300


class Failure(NamedTuple):
    """A failure of a call for a key."""

    kind: Kind
    error: Exception
    hint: str | None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What an exception means."""
        text = _ADDRESS.sub("", str(error))  # a key may have any words and numbers
        sign = next((sign for sign in _SIGNS if sign.pattern.search(text)), None)
        names = (base.__name__ for base in type(error).__mro__)
        kind = next((_BY_NAME[name] for name in names if name in _BY_NAME), None)
        if kind is Kind.REFUSED:
            return cls(kind, error, _REFUSED)
        if kind is None or (kind is Kind.ABSENT and sign is not None and "bucket" in sign.hint):
            return cls(Kind.FAILED, error, None) if sign is None else cls(sign.kind, error, sign.hint)
        return cls(kind, error, None)

    def as_ours(self, store: str, key: str | None, secrets: Iterable[str] = ()) -> ZarrantError:
        """The typed error, with its cause unless that would tell a secret."""
        message, told = shown(self.error, secrets)
        made = _CLASSES.get(self.kind, StoreError)(message, store=store, key=key, hint=self.hint)
        if self.kind is Kind.PASSING:
            made.retryable = True
        made.__cause__ = None if told else self.error
        made.__suppress_context__ = True
        return made


_CLASSES: dict[Kind, type[ZarrantError]] = {
    Kind.CONFLICT: VersionChangedError,
    Kind.REFUSED: StorePermissionError,
    Kind.UNSUPPORTED: CapabilityError,
    Kind.OUTSIDE: ByteRangeError,
}


def shown(error: Exception, secrets: Iterable[str] = ()) -> tuple[str, bool]:
    """The first line of a text, and whether the text had a secret, which was taken out."""
    text = clean = str(error) or type(error).__name__
    for secret in secrets:
        clean = clean.replace(secret, "***")
    clean = _SECRET.sub(r"\1***", clean)
    line = clean.strip().partition("\n")[0]
    return (line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."), clean != text
