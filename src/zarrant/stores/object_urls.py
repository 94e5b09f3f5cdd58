"""Object stores by URL and options: `s3://bucket/path`, `gs://bucket/path`, `az://container/path`, `http(s)://host/path`.

In: a URL and `storage_options`, which are those of obstore (`region`, `endpoint`, `access_key_id`, `client_options` …) and those
of `ObjectStore`. Out: the store of the bucket, and the prefix of the path. Nothing is asked of the service here. What is not given
is looked for in the environment by obstore, in each process anew: a pickled store carries no secret unless it is asked to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from zarrant.errors import CapabilityError, OptionError, did_you_mean
from zarrant.stores.keys import check_key
from zarrant.stores.object_store import COALESCE_GAP, ObjectStore
from zarrant.stores.objects.failures import shown

OURS = ("coalesce_gap", "probe", "pickle_secrets", "forbidden_is_absent")
_FOR_ALL = (*OURS, "client_options", "retry_config")
RETRIES = {"max_retries": 8}
"""Of requests that may be repeated, by obstore: with pauses that double from 0.1 s some 25 s, then the error is told."""
_ONCE = {"max_retries": 0}
_AWS = (
    *("access_key_id", "secret_access_key", "session_token", "region", "default_region", "endpoint", "skip_signature"),
    *("virtual_hosted_style_request", "unsigned_payload", "checksum_algorithm", "conditional_put", "copy_if_not_exists"),
    *("disable_tagging", "disable_bulk_delete", "imdsv1_fallback", "metadata_endpoint", "request_payer", "role_arn"),
    *("role_session_name", "server_side_encryption", "sse_bucket_key_enabled", "sse_kms_key_id", "sse_customer_key_base64"),
    *("sts_endpoint", "web_identity_token_file", "container_credentials_relative_uri", "container_credentials_full_uri"),
    *("container_authorization_token_file", "credential_provider"),
)
_GOOGLE = (
    *("service_account", "service_account_key", "base_url", "bearer_token", "application_credentials", "skip_signature"),
    "credential_provider",
)
_AZURE = (
    *("account_name", "account_key", "client_id", "client_secret", "credential_type", "tenant_id", "authority_host", "sas_key"),
    *("token", "use_emulator", "use_fabric_endpoint", "encryption_key", "endpoint", "msi_endpoint", "object_id"),
    *("msi_resource_id", "federated_token_file", "use_azure_cli", "skip_signature", "disable_tagging"),
    *("fabric_token_service_url", "fabric_workload_host", "fabric_session_token", "fabric_cluster_identifier"),
    "credential_provider",
)
_SECRET = (
    *("access_key_id", "secret_access_key", "session_token", "sse_customer_key_base64", "service_account_key", "bearer_token"),
    *("account_key", "client_secret", "sas_key", "token", "encryption_key", "fabric_session_token", "credential_provider"),
)
"""Options that are secret, and what is of no use without them."""
_SECRET_OF_CLIENT = ("default_headers", "proxy_url")
_DURATIONS = (
    *("timeout", "connect_timeout", "read_timeout", "pool_idle_timeout", "http2_keep_alive_interval", "http2_keep_alive_timeout"),
    *("retry_timeout", "init_backoff", "max_backoff"),
)
"""Options of `client_options` and `retry_config` that may be given as a number of seconds; obstore itself takes no numbers."""
_RETRY = {"retry_config": ("max_retries", "retry_timeout", "backoff"), "backoff": ("init_backoff", "max_backoff", "base")}
"""Names that obstore would pass over where they are misspelt."""
_OTHER_NAMES = {
    "key": "access_key_id",
    "secret": "secret_access_key",
    "anon": "skip_signature",
    "endpoint_url": "endpoint",
    "region_name": "region",
}
"""What other libraries (s3fs, gcsfs, adlfs, boto3) call an option."""
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BASE_URL"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables in which obstore looks for addresses."""


MAX_CLIENTS = 16
"""Clients that are kept for the next store. To make one takes 3 ms, and its first request the making of a connection, over the
internet several times the latency."""
_clients: dict[Any, Any] = {}


def _environment() -> tuple[tuple[str, str], ...]:
    """What obstore looks for in the environment where it is not given."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))))


_CLASSES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}


class UrlStore(ObjectStore):
    """The store of a URL. It is pickled as its address and options: secrets only with `pickle_secrets`."""

    def __init__(self, scheme: str, place: str, options: Mapping[str, Any], unpickled: bool = False) -> None:
        self._options = dict(options)
        _section("client_options", options.get("client_options", {}))
        retries = _section("retry_config", options.get("retry_config", {}))
        self._scheme, self._place = scheme, place
        gap = options.get("coalesce_gap", COALESCE_GAP)
        probe = options.get("probe", "auto")
        self._setup(self._connect, f"{scheme}://{place}", gap, scheme in ("http", "https"), probe, tuple(_secrets(options)))
        self._retry_puts(retries)
        self.forbidden_is_absent = options.get("forbidden_is_absent", False)
        if not isinstance(self.forbidden_is_absent, bool):
            field, got = "forbidden_is_absent", repr(self.forbidden_is_absent)
            raise OptionError("neither true nor false", store=self.url, field=field, expected="True | False", got=got)
        self._identity = scheme, place, tuple(sorted((name, repr(value)) for name, value in self._options.items()))
        if not unpickled:  # an error there would end the worker of a pool, which then tells nobody why
            self._inner()  # options that are wrong are told where they were given

    def _described(self) -> Any:
        return getattr(_obstore(self.url), _CLASSES.get(self._scheme, "HTTPStore"))

    def _retry_puts(self, config: Mapping[str, Any]) -> None:
        """Conditional puts are tried again by us, as `retry_config` says."""
        tries, seconds = config.get("max_retries"), config.get("retry_timeout")
        if isinstance(tries, int):
            self._tries = tries + 1
        if isinstance(seconds, timedelta):
            self._put_timeout_s = seconds.total_seconds()

    def _connect(self, swaps: bool) -> Any:
        """The client; one that a store of the same bucket and options has made in this process, with its open connections."""
        name = os.getpid(), swaps, self._identity, _environment()
        found = _clients.get(name)
        if found is None:
            while len(_clients) >= MAX_CLIENTS:
                _clients.pop(next(iter(_clients), None), None)
            found = _clients[name] = self._new_client(swaps)
        return found

    def _new_client(self, swaps: bool) -> Any:
        store = _obstore(f"{self._scheme}://{self._place}")
        given = {name: value for name, value in self._options.items() if name not in OURS}
        retries = {**RETRIES, **_section("retry_config", given.pop("retry_config", {}))}
        common = {"client_options": _client_options(self._scheme, given), "retry_config": {**retries, **(_ONCE if swaps else {})}}
        given.pop("client_options", None)
        try:
            if self._scheme in _CLASSES:
                return self._described()(self._place, **common, **given)
            return store.HTTPStore(self.url, **common)
        except Exception as error:
            text, told = shown(error, self._secrets)
            raise OptionError(text, store=self.url, field="storage_options") from (None if told else error)

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._options if self._options.get("pickle_secrets") else _without_secrets(self._options)
        return UrlStore, (self._scheme, self._place, options, True)


class S3Url:
    """`s3://bucket/path`: Amazon S3, and what speaks like it."""

    known: ClassVar[tuple[str, ...]] = _AWS

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> tuple[ObjectStore, str]:
        """The store of a bucket, and the prefix in it."""
        return _from_url(url, options, cls.known)


class GcsUrl(S3Url):
    """`gs://bucket/path`: Google Cloud Storage."""

    known = _GOOGLE


class AzureUrl(S3Url):
    """`az://container/path`: Azure Blob Storage; the account is an option, or in the environment."""

    known = _AZURE


class HttpUrl(S3Url):
    """`http://host/path` and `https://…`: any server, which is read and not listed."""

    known = ()


def _from_url(url: str, options: Mapping[str, Any], known: tuple[str, ...]) -> tuple[ObjectStore, str]:
    parts = urlsplit(url)
    shown_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.query or parts.fragment:
        raise OptionError("a URL with more than a path", field="store", expected=shown_url, hint="Options go to `storage_options`")
    if "@" in parts.netloc:
        hint = "Give secrets in `storage_options`, or let them be found in the environment"
        raise OptionError("a URL with a user or a password", field="store", expected=shown_url, hint=hint)
    if not parts.netloc:
        raise OptionError("a URL without a bucket or host", field="store", expected=f"{parts.scheme}://name/path", got=shown_url)
    names = (*_FOR_ALL, *known)
    for given in options:
        if given not in names:
            other = _OTHER_NAMES.get(given)
            near = f"Its name here is {other!r}" if other in names else did_you_mean(given, names)
            raise OptionError("unknown storage option", store=shown_url, field=str(given), expected=", ".join(names), hint=near)
    path = unquote(parts.path).strip("/")
    if path:
        check_key(path, shown_url)
    return UrlStore(parts.scheme.lower(), parts.netloc, options), f"{path}/" if path else ""


def _client_options(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What obstore's HTTP client is told: plain HTTP is allowed where the caller gave such an address."""
    endpoints = [str(options[name]) for name in ("endpoint", "base_url", "service_account_key") if options.get(name)]
    if not endpoints:
        endpoints = [value for name in _ENDPOINTS.get(scheme, ()) if (value := os.environ.get(name))]
    if scheme == "s3" and (wrong := next((address for address in endpoints if "://" not in address), None)):
        # obstore would panic, which is no Exception.
        raise OptionError("an address without a scheme", field="endpoint", expected="https://… or http://…", got=repr(wrong))
    plain = scheme == "http" or any("http://" in endpoint for endpoint in endpoints)
    return {**({"allow_http": True} if plain else {}), **_section("client_options", options.get("client_options", {}))}


def _section(name: str, options: object) -> dict[str, Any]:
    """Options within an option; numbers are seconds where they are times."""
    if not isinstance(options, Mapping):
        raise OptionError("not options", field=name, expected="a dict", got=repr(options))
    known = _RETRY.get(name)
    for given in options:
        if known and given not in known:
            hint = did_you_mean(given, known)
            raise OptionError(f"unknown option of {name}", field=str(given), expected=", ".join(known), hint=hint)
    found = {given: _section(given, value) if given in _RETRY else value for given, value in options.items()}
    times = {given: value for given, value in found.items() if given in _DURATIONS and isinstance(value, int | float)}
    return {**found, **{given: timedelta(seconds=value) for given, value in times.items()}}


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """Texts that may not show up anywhere; very short ones would garble everything else."""
    for name, value in options.items():
        if name in _SECRET and isinstance(value, str) and len(value) > 3:
            yield value
    client = options.get("client_options", {})
    for value in dict(client.get("default_headers", {})).values():
        yield value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if "@" in str(client.get("proxy_url", "")):
        yield str(client["proxy_url"])


def _without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name not in _SECRET}
    if "client_options" in kept:
        client = kept["client_options"]
        kept["client_options"] = {name: value for name, value in client.items() if name not in _SECRET_OF_CLIENT}
    return kept


def _obstore(url: str) -> Any:
    try:
        from obstore import store
    except ImportError as cause:
        hint = "pip install 'zarrant[object]'"
        raise CapabilityError("object stores need obstore", store=url, expected="obstore", hint=hint) from cause
    return store
