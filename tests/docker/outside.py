"""outside: `python outside.py LOG`: the world beyond the hospital: a web server and a name server that note who calls."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from pathlib import Path


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        note("web")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"outside")

    def log_message(self, *words: object) -> None:
        """Our own note is enough."""


def note(kind: str) -> None:
    with Path(sys.argv[1]).open("a") as log:
        log.write(f"{kind}\n")


def hear_names() -> None:
    """Every look-up is noted; none is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 53))
        while True:
            question, _ = server.recvfrom(1000)
            note("name " + "".join(chr(c) for c in question if chr(c).isalnum()))


if __name__ == "__main__":
    threading.Thread(target=hear_names, daemon=True).start()
    http.server.ThreadingHTTPServer(("0.0.0.0", 80), Answer).serve_forever()
