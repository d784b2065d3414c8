"""page: the review page's server: on this computer only, for whoever holds the address with its token.

Nothing is fetched from elsewhere and nothing is sent elsewhere: the viewer lies beside this file, and the page's
own policy forbids any other host.  What a reader does goes through a `Desk`, which knows the queue.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from common.errors import StudyError

__all__ = ["Desk", "serve_page"]

ASSETS = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "niivue.umd.js": ("niivue.umd.js", "text/javascript; charset=utf-8"),
}
IMAGES = {"t1ce.nii": "t1ce", "flair.nii": "flair", "mask.nii.gz": "mask"}
LARGEST_BODY = 128 * 2**20
MOST_DIGITS = 9
"""Of a length; Python refuses to read thousands of them."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Desk(Protocol):
    """What one reader may do; every method may raise a StudyError, whose local face the reader sees."""

    def queue(self) -> dict[str, Any]:
        """The reader's list."""

    def open(self, pseudonym: str) -> dict[str, Any]:
        """Take a case."""

    def image(self, pseudonym: str, name: str) -> bytes:
        """NIfTI: t1ce or flair; the reader's mask, compressed."""

    def save(self, pseudonym: str, mask: bytes) -> dict[str, Any]:
        """Keep what was drawn so far."""

    def accept(self, pseudonym: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Finish the reading and accept it."""

    def send_back(self, pseudonym: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Leave the case to others, or out of the study."""


def serve_page(desk: Desk, *, port: int = 0, ready: Callable[[str, ThreadingHTTPServer], None]) -> None:
    """Serve until interrupted or shut down; `ready` is told the page's address once it can be opened."""
    token = secrets.token_urlsafe(24)
    with ThreadingHTTPServer(("127.0.0.1", port), _handler(desk, token)) as server:
        server.daemon_threads = True
        ready(f"http://127.0.0.1:{server.server_address[1]}/{token}/", server)
        server.serve_forever()


def _handler(desk: Desk, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request; a wrong token, host or origin is told nothing."""

        protocol_version = "HTTP/1.1"
        server_version, sys_version = "review", ""

        def do_GET(self) -> None:
            """Assets, the list, and images."""
            match self._place():
                case [name] if name in ASSETS:
                    file, kind = ASSETS[name]
                    self._reply(HTTPStatus.OK, kind, (Path(__file__).parent / "viewer" / file).read_bytes())
                case ["api", "queue"]:
                    self._answer(desk.queue)
                case ["api", pseudonym, file] if file in IMAGES:
                    self._answer(lambda: desk.image(pseudonym, IMAGES[file]))
                case _:
                    self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"")

        def do_POST(self) -> None:
            """What the reader does; only from the page itself."""
            place = self._place()
            if not place:  # a stranger's body is not even read
                self.close_connection = True
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"")
                return
            body = self._body()
            if body is None:
                return
            match place:
                case ["api", pseudonym, "open"]:
                    self._answer(lambda: desk.open(pseudonym))
                case ["api", pseudonym, "mask"]:
                    self._answer(lambda: desk.save(pseudonym, body))
                case ["api", pseudonym, "accept"]:
                    self._answer(lambda: desk.accept(pseudonym, json.loads(body)))
                case ["api", pseudonym, "send-back"]:
                    self._answer(lambda: desk.send_back(pseudonym, json.loads(body)))
                case _:
                    self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"")

        def _place(self) -> list[str]:
            """Path below the token; empty for a stranger, also for another host's page that points at us."""
            host = f"127.0.0.1:{self.server.server_address[1]}"  # type: ignore[index]  # a pair for IPv4
            own = self.headers.get("Host") == host and self.headers.get("Origin") in (None, f"http://{host}")
            _, given, *rest = [*self.path.partition("?")[0].split("/"), ""]
            if not own or not hmac.compare_digest(given.encode(), token.encode()):
                return []
            return rest[:-1]

        def _body(self) -> bytes | None:
            told = self.headers.get("Content-Length") or "0"
            if told.isdecimal() and len(told) <= MOST_DIGITS and int(told) <= LARGEST_BODY:
                return self.rfile.read(int(told))
            self.close_connection = True
            self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", b"")
            return None

        def _answer(self, act: Callable[[], dict[str, Any] | bytes]) -> None:
            try:
                result = act()
            except StudyError as error:
                told = {"code": error.code, "problem": error.problem, "fix": error.fix, "local": error.local}
                self._reply(HTTPStatus.CONFLICT, "application/json", json.dumps(told).encode())
                return
            except (ValueError, TypeError, KeyError, OSError, RecursionError):
                traceback.print_exc(file=sys.stderr)
                self._reply(HTTPStatus.BAD_REQUEST, "application/json", b'{"code": "request-malformed"}')
                return
            if isinstance(result, bytes):
                self._reply(HTTPStatus.OK, "application/octet-stream", result)
            else:
                self._reply(HTTPStatus.OK, "application/json", json.dumps(result).encode())

        def _reply(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent: a line would hold the token and a pseudonym."""

    return Handler
