"""Between a client and an object store: counts what is asked for, makes trouble, and holds requests back."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self

from tests.object_store.servers import Server
from tests.waiting import HANG_SECS

SILENT_SECS = 60.0
"""A request that is not answered is kept open for so long, far longer than a client may wait."""


class Asked(NamedTuple):
    """A request: its method, the path with its query, and the range of bytes, as it was sent."""

    method: str
    path: str
    range: str | None


Trouble = Callable[[Asked], str | None]
"""What goes wrong with a request; None if nothing does.

- `half`, `reset`, `stalled`: half of the body of the answer arrives; then the connection is closed, or is reset, or
  nothing more comes.
- `gone`: as `reset`, and from then on connections are refused.
- `closed`, `silent`: the connection is closed without an answer; no answer comes.
- `unsent`, `sent half`, `unanswered`: nothing of the request gets to the store, or half of its body, or all of it, and
  the store answers. Then `interrupt` is called, and the connection is reset.
- a number, such as `503`: that status is the answer.
"""


class Proxy:
    """A server that passes requests on to a store.

    Attributes:
        asked: the requests so far, in the order in which they came.
        body_bytes: bytes of the bodies that were sent to clients.
        trouble: what goes wrong with a request.
        interrupt: see `Trouble`.
        unanswered: the requests with a body that the store has begun to get, and has not answered.
        answered: those that it has answered with success.
        together: the largest number of requests that waited for an answer at one time.
        hold: requests for which this is true are not answered before `held` of them wait.
        held: see `hold`.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.asked: list[Asked] = []
        self.body_bytes = 0
        self.trouble: Trouble = lambda asked: None
        self.interrupt: Callable[[], None] = lambda: None
        self.unanswered: list[Asked] = []
        self.answered: list[Asked] = []
        self.hold: Callable[[Asked], bool] = lambda asked: False
        self.held = 1
        self.together = 0
        self._waiting = 0
        self._changed = threading.Condition()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        for method in ("PUT", "HEAD", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.do_GET)

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that leaves is no error."""

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(HANG_SECS)

    def variables(self) -> dict[str, str]:
        """The environment variables by which a client finds it, and is let in."""
        return self._server.variables(f"http://127.0.0.1:{self._http.server_address[1]}")

    def environment(self) -> dict[str, str]:
        """The environment of a process that uses it."""
        return self._server.environment() | self.variables()

    def forget(self) -> None:
        """Count from here on."""
        self.asked.clear()
        self.body_bytes = self.together = 0

    def _answer(self, client: BaseHTTPRequestHandler) -> None:
        asked = Asked(client.command, client.path, client.headers.get("Range"))
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        with self._changed:
            self.asked.append(asked)
            trouble = self.trouble(asked)
            self._waiting += 1
            self.together = max(self.together, self._waiting)
            self._changed.notify_all()
            if self.hold(asked):
                self._changed.wait_for(lambda: self.together >= self.held, SILENT_SECS)
        try:
            self._pass_on(client, asked, body, trouble)
        finally:
            with self._changed:
                self._waiting -= 1

    def _pass_on(self, client: BaseHTTPRequestHandler, asked: Asked, body: bytes, trouble: str | None) -> None:
        if trouble in ("silent", "closed"):
            threading.Event().wait(SILENT_SECS if trouble == "silent" else 0)
            client.close_connection = True
            client.connection.close()
            return
        if trouble is not None and trouble.isdecimal():
            client.send_response(int(trouble))
            client.send_header("Content-Length", "0")
            client.end_headers()
            return
        if trouble in ("unsent", "sent half", "unanswered"):
            client.close_connection = True
            self._interrupt(client, asked, body, trouble)
            return
        found, content = self._exchange(client, asked, body)
        client.send_response_only(found.status)
        for name, value in found.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                client.send_header(name, value)
        length = found.getheader("Content-Length") if client.command == "HEAD" else str(len(content))
        client.send_header("Content-Length", length or "0")
        client.end_headers()
        if trouble in ("half", "reset", "stalled", "gone"):
            client.wfile.write(content[: len(content) // 2])
            client.close_connection = True
            if trouble == "stalled":
                threading.Event().wait(SILENT_SECS)
            elif trouble != "half":
                _reset(client.connection)
            if trouble == "gone":
                threading.Thread(target=self.close).start()  # it waits for the thread that accepts connections
            return
        client.wfile.write(content)
        self.body_bytes += len(content)

    def _exchange(
        self, client: BaseHTTPRequestHandler, asked: Asked, body: bytes
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request to the store; return its answer, and the body of that."""
        if body:
            self.unanswered.append(asked)
        upstream = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=HANG_SECS)
        with closing(upstream):
            upstream.request(client.command, client.path, body or None, dict(client.headers))
            found = upstream.getresponse()
            content = found.read()
        if body:
            self.unanswered.remove(asked)
            self.answered += [asked] * (found.status < 300)
        return found, content

    def _interrupt(self, client: BaseHTTPRequestHandler, asked: Asked, body: bytes, trouble: str) -> None:
        with ExitStack() as stack:
            if trouble == "unanswered":
                self._exchange(client, asked, body)
            elif trouble == "sent half":
                self.unanswered.append(asked)
                upstream = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=HANG_SECS)
                stack.callback(upstream.close)
                upstream.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
                for name, value in client.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body[: len(body) // 2])
            self.interrupt()
        _reset(client.connection)


def _reset(connection: socket.socket) -> None:
    """Reset a connection, as the system of a server that was killed does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())  # to close it as a socket says goodbye first
