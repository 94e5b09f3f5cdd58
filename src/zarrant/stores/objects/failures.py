"""What went wrong at an object store: errors of obstore (or of another implementation of obspec) as ours.

In: an exception, known by the name of its class, as obspec wants it, or by its text: obstore has no class for an answer of
5xx, a host that cannot be reached, or a bucket that is not there. Out: a `Kind`, which says what to do next, and the typed
error, with the place, the key and a hint. No secret of the caller's options gets into its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, TypeAlias

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


_BUCKET = "The bucket (container) is not there: make it, or look at its name and at `endpoint`"
_REGION = "The bucket is in another region: give its `region` in storage_options"
_TLS = "Look at the address (https or http?), and at `root_certificate` in client_options"
_SLOWER = "Too many requests: use less `concurrency`"
_LATER = "The service failed: do it again later"
_RANGE = "The object is shorter than it was"
_LACKS = "The service does not have this"
_HOST = "The host cannot be reached: look at `endpoint`, the network and the proxy"
_LOST = "The connection failed: do it again later, or raise `timeout` in client_options"
_NO_CREDENTIALS = (
    "No credentials were found. Give them in storage_options or in the environment, or skip_signature=True for public data; "
    "a pickled handle carries them with pickle_secrets=True"
)
_PLAIN = 'An address of http:// needs client_options={"allow_http": True}'

Meaning: TypeAlias = tuple[Kind, str]
# Codes in the body of an answer, as S3, Azure and Google name them.
_CODES: dict[str, Meaning] = {
    **dict.fromkeys(["NoSuchBucket", "ContainerNotFound"], (Kind.FAILED, _BUCKET)),
    **dict.fromkeys(["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"], (Kind.FAILED, _REGION)),
    **dict.fromkeys(["SlowDown", "ServerBusy", "TooManyRequests"], (Kind.PASSING, _SLOWER)),
    "NotImplemented": (Kind.UNSUPPORTED, _LACKS),
    "InvalidRange": (Kind.OUTSIDE, _RANGE),
}
_STATUSES: dict[int, Meaning] = {
    301: (Kind.FAILED, _REGION),
    **dict.fromkeys([405, 501], (Kind.UNSUPPORTED, _LACKS)),
    **dict.fromkeys([408, 409], (Kind.PASSING, _LATER)),
    **dict.fromkeys([429, 503], (Kind.PASSING, _SLOWER)),
    416: (Kind.OUTSIDE, _RANGE),
}
# Words of obstore where there was no answer. In order: the first that is there.
_WORDS: tuple[tuple[str, Meaning], ...] = (
    ("without LOCATION", (Kind.FAILED, _REGION)),
    (r"certificate|UnknownIssuer|InvalidContentType|\btls\b|\bssl\b", (Kind.FAILED, _TLS)),
    ("non-partial|Range request not supported", (Kind.NO_RANGES, "The server does not send parts of objects")),
    ("Invalid range", (Kind.OUTSIDE, _RANGE)),
    ("dns error|failed to lookup|connection refused|tcp connect|error trying to connect", (Kind.PASSING, _HOST)),
    ("allow_http|URL scheme is not allowed|builder error", (Kind.FAILED, _PLAIN)),
    ("credential|metadata token|managed identity", (Kind.REFUSED, _NO_CREDENTIALS)),
    ("timed? ?out|error sending request|connection|incomplete|end of file|body error|HTTP error", (Kind.PASSING, _LOST)),
)
_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})|HTTP status [a-z ]*\((\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|\"?code\"?: \"(\w+)\"")
_CLOCK = "The clock of this machine is wrong, or that of the service"
_REFUSED = "Look at the credentials and at what they allow. S3 also says so of an absent key to who may not list the bucket"
_SECRET = re.compile(
    r"(?i)((?:x-amz-(?:signature|credential|security-token)|sig|token|secret|password|authorization|access_key)=)[^&\s\"']+"
)
_METADATA = re.compile(r"\bhttp://(?:169\.254\.|fd00:ec2::|metadata\.google|[^/\s]+/(?:latest/|computeMetadata/))")
"""Where machines of a cloud ask for credentials, which is done where none are given."""
_ADDRESS = re.compile(r"\w+://[^\s\"']+|path: \"[^\"]*\"")
_CUT = re.compile("(?i)body error|incomplete|end of file")
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
        names = (base.__name__ for base in type(error).__mro__)
        kind = next((_BY_NAME[name] for name in names if name in _BY_NAME), None)
        if _METADATA.search(str(error)):
            return cls(Kind.REFUSED, error, _NO_CREDENTIALS)
        found, hint = _meaning(text)
        if kind is Kind.REFUSED:
            return cls(kind, error, _CLOCK if "RequestTimeTooSkewed" in text else _REFUSED)
        if kind is None or (kind is Kind.ABSENT and hint is _BUCKET) or found is Kind.NO_RANGES:
            return cls(found, error, hint)
        return cls(kind, error, None)

    @property
    def is_cut(self) -> bool:
        """Whether a reply broke off in its body, which obstore does not ask for again."""
        return self.kind is Kind.PASSING and _CUT.search(str(self.error)) is not None

    @property
    def is_forbidden(self) -> bool:
        """Whether the answer was 403, which some services give for absent objects."""
        return self.kind is Kind.REFUSED and any(base.__name__ == "PermissionDeniedError" for base in type(self.error).__mro__)

    def as_ours(self, store: str, key: str | None, secrets: Iterable[str] = ()) -> ZarrantError:
        """The typed error, with its cause unless that would show a secret."""
        if isinstance(self.error, ZarrantError):
            return self.error.annotate(store=store, key=key)
        message, has_secret = shown(self.error, secrets)
        made = _CLASSES.get(self.kind, StoreError)(message, store=store, key=key, hint=self.hint)
        if self.kind is Kind.PASSING:
            made.retryable = True
        made.__cause__ = None if has_secret else self.error
        made.__suppress_context__ = True
        return made


_CLASSES: dict[Kind, type[ZarrantError]] = {
    Kind.CONFLICT: VersionChangedError,
    Kind.REFUSED: StorePermissionError,
    Kind.UNSUPPORTED: CapabilityError,
    Kind.OUTSIDE: ByteRangeError,
}


def _meaning(text: str) -> tuple[Kind, str | None]:
    """What a text means, by the code in it, else by its status, else by its words."""
    code = _CODE.search(text)
    if code and (found := _CODES.get(code[1] or code[2])):
        return found
    if status := _STATUS.search(text):
        number = int(next(filter(None, status.groups())))
        return _STATUSES.get(number) or ((Kind.PASSING, _LATER) if number >= 500 else (Kind.FAILED, None))
    for words, meaning in _WORDS:
        if re.search(words, text, re.IGNORECASE):
            return meaning
    return Kind.FAILED, None


def shown(error: Exception, secrets: Iterable[str] = ()) -> tuple[str, bool]:
    """The first line of a text, and whether the text had a secret, which was taken out."""
    text = clean = str(error) or type(error).__name__
    for secret in secrets:
        clean = clean.replace(secret, "***")
    clean = _SECRET.sub(r"\1***", clean)
    line = clean.strip().partition("\n")[0].partition(": <?xml")[0]
    return (line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."), clean != text
