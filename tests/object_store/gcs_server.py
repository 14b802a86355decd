"""Moto as a server of the XML protocol of Google Cloud Storage: that of S3, in which some headers have other names.

Usage: .stores/moto/bin/python tests/object_store/gcs_server.py PORT
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import (  # type: ignore[import-not-found]  # it is in an environment of its own
    DomainDispatcherApplication,
    create_backend_app,
)
from werkzeug.serving import run_simple

_moto = DomainDispatcherApplication(create_backend_app)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request: put-if-absent and metadata by the names of S3, and metadata back by those of Google."""
    for name in [name for name in environ if name.startswith("HTTP_X_GOOG_META_")]:
        environ[name.replace("X_GOOG", "X_AMZ")] = environ.pop(name)
    if environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None) == "0":
        environ["HTTP_IF_NONE_MATCH"] = "*"

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        renamed = [(name.lower().replace("x-amz-meta-", "x-goog-meta-"), value) for name, value in headers]
        return start_response(status, renamed, *error)

    answer: Iterable[bytes] = _moto(environ, start)
    return answer


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
