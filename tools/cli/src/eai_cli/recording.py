"""Serves a local recording over loopback; only with the sandbox's settings does the gateway fetch from there."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from socketserver import BaseServer
from urllib.parse import quote

__all__ = ["serve_recording"]


@contextmanager
def serve_recording(path: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve the file at an unguessable URL, and nothing else, for as long as the context."""
    url_path = f"/{secrets.token_urlsafe(16)}/{quote(path.name)}"
    server = ThreadingHTTPServer((host, 0), partial(_OneFile, url_path, path.read_bytes()))
    # A short poll interval: whoever sent the recording waits for the shutdown.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="recording", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}{url_path}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _OneFile(BaseHTTPRequestHandler):
    def __init__(
        self, url_path: str, content: bytes, request: socket, client_address: object, server: BaseServer
    ) -> None:
        self._url_path = url_path
        self._content = content
        super().__init__(request, client_address, server)

    def do_GET(self) -> None:  # noqa: N802  # the name that http.server looks for
        if self.path != self._url_path:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(self._content)))
        self.end_headers()
        self.wfile.write(self._content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature to override
        """Log nothing: stderr is for the command's user."""
