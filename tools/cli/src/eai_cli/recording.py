"""Serves one local recording over loopback, for the gateway to fetch; only the sandbox's settings allow its address."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

__all__ = ["served_recording"]


@contextmanager
def served_recording(path: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of the file, for as long as the context is open. Nobody can guess it, and nothing else is served."""
    content = path.read_bytes()
    url_path = f"/{secrets.token_urlsafe(16)}/{quote(path.name)}"

    class OneFile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  # the name that http.server looks for
            if self.path != url_path:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature to override
            """A command's output is for its user; requests are no news."""

    server = ThreadingHTTPServer((host, 0), OneFile)
    # It looks that often whether it shall end; whoever sent the recording waits for it.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="recording", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}{url_path}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
