"""Opens an object store by its URL, and names places in it; what reads runs there and what uploads them both use it.

obstore speaks to the store, and is imported when it is needed: it is the extra `store`. Credentials, region and
endpoint come from the environment alone (`AWS_…`, `GOOGLE_…`, `AZURE_…`), as obstore reads them. Its own messages may
have parts of a request in them, signatures included, so no message of ours repeats one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from esper_schemas.errors import StoreError, UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
"""What a URL of an object store begins with. `file:` is a path on this machine."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(s3|gs|az):/")  # one slash: that of a `Path` of a URL
_EXAMPLE = "a URL is s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH"
_INSTALL = "pip install 'esper-recorder[store]'"

CONNECT_SECS, READ_SECS, REQUEST_SECS = 3, 5, 30
"""A request ends after so many seconds without a connection, without a further byte, and in all."""

RETRIES, RETRY_SECS = 2, 15
"""A request that fails for a reason that may pass is tried so many times more, and not beyond so many seconds."""

_KEPT_CLIENTS = 8


class _Variables(NamedTuple):
    """The environment variables that obstore reads for the URLs of a scheme.

    Attributes:
        prefix: what the name of each of them begins with.
        endpoints: those that have the address of the store, the best known one last.
        credentials: those that most people set, for messages.
    """

    prefix: str
    endpoints: tuple[str, ...]
    credentials: str


_VARIABLES = {
    "s3": _Variables(
        "AWS_",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_ENDPOINT_URL"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    "gs": _Variables("GOOGLE_", ("GOOGLE_BASE_URL",), "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": _Variables(
        "AZURE_",
        ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    ),
}


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A place in an object store: a run, a folder of runs, or an object. It is used like a path.

    Attributes:
        root: scheme and bucket, such as `s3://bucket`.
        key: names below it, with `/` between them; empty for the bucket itself.
    """

    root: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Read a URL, with or without a slash at its end.

        Raises:
            UsageError: it is not one of an object store, or has a user, a password, a query or a fragment in it.
        """
        scheme = _scheme(text)
        if scheme not in SCHEMES:
            found = "a path" if scheme is None else f"{scheme[:20]}://"
            raise UsageError(f"expected the URL of an object store, found {found}; {_EXAMPLE}")
        try:
            parts = urlsplit(text if "://" in text else text.replace(":/", "://", 1))
        except ValueError:
            raise UsageError(f"expected the URL of an object store, found an invalid one; {_EXAMPLE}") from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(
                f"a URL must have no user, password, query or fragment ({parts.scheme}://…);"
                " credentials come from the environment, such as AWS_ACCESS_KEY_ID"
            )
        names = [name for name in parts.path.split("/") if name]
        if not parts.netloc or not text.isprintable() or any(name in (".", "..") for name in names):
            raise UsageError(f"expected a bucket and names in it, found {text[:100]!a}; {_EXAMPLE}")
        return cls(f"{parts.scheme}://{parts.netloc}", "/".join(names))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __fspath__(self) -> str:
        return str(self)

    def __truediv__(self, name: str) -> StoreUrl:
        return replace(self, key=f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last name; that of the bucket if there is none below it."""
        return self.key.rpartition("/")[2] or self.root.rpartition("/")[2]

    @property
    def parent(self) -> StoreUrl:
        """The place that it is in; the bucket is in itself."""
        return replace(self, key=self.key.rpartition("/")[0])

    def resolve(self) -> StoreUrl:
        """The place itself: an object store has no links."""
        return self


Place = Path | StoreUrl
"""Where a run is: a folder on a disk, or a place in an object store."""


def is_url(text: object) -> bool:
    """Whether something that a person typed is a URL, of whatever kind, and not a path or a name."""
    return isinstance(text, StoreUrl) or (isinstance(text, str | os.PathLike) and _scheme(str(text)) is not None)


def parse_place(text: str | os.PathLike[str] | StoreUrl) -> Place:
    """Return the place that a person named, by a path or a URL; `file:///runs/mine` is the path `/runs/mine`.

    Raises:
        UsageError: it is a URL that names no place on this machine or in an object store.
    """
    if isinstance(text, StoreUrl):
        return text
    scheme = _scheme(str(text))
    if scheme is None:
        return Path(text)
    if scheme != "file":
        return StoreUrl.parse(str(text))
    parts = urlsplit(str(text))
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UsageError(f"expected file:///PATH, found {str(text)[:100]!a}")
    return Path(unquote(parts.path))


def path_below(place: Place, root: Place) -> str | None:
    """The names that lead from one place to another, with `/` between them: "" if it is the same, None if none do."""
    if isinstance(place, StoreUrl):
        prefix = f"{root}/"
        return str(place)[len(prefix) :] if isinstance(root, StoreUrl) and f"{place}/".startswith(prefix) else None
    if isinstance(root, StoreUrl) or not place.is_relative_to(root):
        return None
    return "" if place == root else place.relative_to(root).as_posix()


def _scheme(text: str) -> str | None:
    match = _URL.match(text)
    return None if match is None else (match[1] or match[2]).lower()


# ------------------------------------------------------------------ opening


def open_store(url: StoreUrl, *, answer_secs: float = READ_SECS, request_secs: float = REQUEST_SECS) -> ObjectStore:
    """Open the bucket that a URL is in; names in the store are then keys, such as `url.key`.

    Nothing is asked of the store yet. A store that was opened before is used again, with its connections, as long as
    the environment is the same; a process that was forked opens its own.

    Args:
        url: a place in the bucket.
        answer_secs: a request ends after so many seconds without a further byte of the answer.
        request_secs: a request ends after so many seconds in all.

    Raises:
        UsageError: obstore is not installed, or the environment lacks or has something that makes it unusable.
    """
    prefix = _variables_of(url.root).prefix
    settings = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    return _open(url.root, answer_secs, request_secs, os.getpid(), tuple(sorted(settings.items())))


def check_installed(where: object) -> None:
    """Check that an object store can be opened at all, without importing what opens it.

    Raises:
        UsageError: obstore is not installed; the message begins with `where`.
    """
    if find_spec("obstore") is None:
        raise UsageError(f"{where}: an object store needs obstore, which is not installed: {_INSTALL}")


@lru_cache(maxsize=_KEPT_CLIENTS)
def _open(
    root: str, answer_secs: float, request_secs: float, _process: int, settings: tuple[tuple[str, str], ...]
) -> ObjectStore:
    check_installed(root)
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    retries = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2}
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_SECS),
        "read_timeout": timedelta(seconds=answer_secs),
        "timeout": timedelta(seconds=request_secs),
    }
    _check_settings(root, dict(settings))
    if _endpoint(root, dict(settings)).lower().startswith("http://"):
        options["allow_http"] = True
    retry: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECS), "backoff": retries}
    try:
        opened: ObjectStore = from_url(root, client_options=options, retry_config=retry)  # type: ignore[call-overload]
        return opened
    except (BaseError, ValueError) as error:
        raise UsageError(f"{root}: {_cause(root, error)}; {_EXAMPLE}") from None


def _variables_of(url: str) -> _Variables:
    return _VARIABLES[url.partition("://")[0]]


def _endpoint(url: str, settings: Mapping[str, str]) -> str:
    """The address of the store of a URL; empty if the environment has none."""
    return next((settings[name] for name in _variables_of(url).endpoints if settings.get(name)), "")


_ADDRESS = re.compile("https?://[!-~]+", re.IGNORECASE)
_HOST = re.compile("[a-z0-9_.:-]+")


def _check_settings(url: str, settings: Mapping[str, str]) -> None:
    """Check what obstore panics of: an address that is none, and line breaks in what becomes a header of HTTP.

    Raises:
        UsageError: a variable is wrong; it is named, and its text, which may be a secret, is not.
    """
    for name in _variables_of(url).endpoints:
        text = settings.get(name, "")
        try:
            parts = urlsplit(text)
            is_address = _ADDRESS.fullmatch(text) and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
        except ValueError:
            is_address = None
        if text and not is_address:
            raise UsageError(f"{name} must be the address of a store, such as https://HOST:PORT, and is another text")
    for name, text in settings.items():
        is_document = text.lstrip().startswith("{")  # credentials of Google, as JSON
        if not (text.isprintable() or is_document):
            raise UsageError(f"{name} has a line break or another control character in it; set it without")


# ------------------------------------------------------------------ failing


@contextmanager
def store_errors(where: str, *, creates: bool = False) -> Iterator[None]:
    """Turn what obstore raises in the block into errors of one line that name `where`, without parts of a request.

    Args:
        where: the URL that is asked for.
        creates: whether the object is to be created, and must not be there.

    Raises:
        FileNotFoundError: there is no such object; with `where` as its file name.
        FileExistsError: there is one already, with `creates`.
        StoreError: anything else.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if re.search(_NO_BUCKET, str(error)):
            raise StoreError(f"{where}: {_cause(where, error)}") from None
        raise FileNotFoundError(2, "No such object", where) from None
    except exceptions.AlreadyExistsError as error:
        if not creates:
            raise StoreError(f"{where}: {_cause(where, error)}") from None
        raise FileExistsError(17, "Object exists", where) from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise StoreError(f"{where}: {_cause(where, error)}") from None


_NO_BUCKET = "<Code>(?:NoSuchBucket|ContainerNotFound)</Code>"
_REFUSED = "the store refuses access; check the credentials in the environment, and what they allow"
_CAUSES = (
    (f"{_NO_BUCKET}|bucket does not exist", "there is no such bucket; check its name, and the region"),
    ("169\\.254\\.169\\.254|metadata\\.google|[Tt]oken request|MissingAccount|must be specified|[Cc]redential",
     "no credentials were found; set them in the environment, such as CREDENTIALS"),
    ("status code: 40[13]", _REFUSED),
    ("status code: 301|PermanentRedirect|AuthorizationHeaderMalformed",
     "the bucket is in another region; set AWS_REGION"),
    ("status code: 416", "the object is shorter than it was listed"),
    ("status code: (?:429|503)|SlowDown", "the store asks for fewer requests; try again later"),
    ("status code: 5", "the store has an error of its own; try again later"),
    ("allow_http|not allowed: http|URL scheme is not allowed", "the address of the store must begin with https://"),
    ("error decoding response body|error reading a body|body error|unexpected EOF|IncompleteMessage",
     "the connection broke; try again"),
)  # fmt: skip
_NAMES = re.compile(r'(?<=://)([^/\s",]+)[^\s",]*|path: "[^"\n]*"')
"""Where the words of obstore have the name of an object, which may be any word."""


def _cause(where: str, error: BaseException) -> str:
    """What is wrong, in words of ours: those of obstore may have parts of a request, or an address with a password."""
    from obstore import exceptions

    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return _REFUSED
    variables = _variables_of(where)
    text = _NAMES.sub(lambda found: found[1] or "", str(error))
    for pattern, cause in _CAUSES:
        if re.search(pattern, text):
            return cause.replace("CREDENTIALS", variables.credentials)
    if "HTTP error" in text or "error sending request" in text or isinstance(error, OSError):
        address = urlsplit(_endpoint(where, os.environ))
        named = f" at {address.hostname}" + (f":{address.port}" if address.port else "") if address.hostname else ""
        return f"the store{named} does not answer; check the network, and {variables.endpoints[-1]}"
    status = re.search("status code: ([0-9]{3})", text)
    return f"the store cannot be used (HTTP {status[1]})" if status else "the store cannot be used"
