"""A stand-in for the model hub: what `huggingface_hub` asks to fetch one file, and ways to fail."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository file, served on a local port."""

    content: bytes
    etag: str = ""  # the SHA-256 of the content, unless something else is told
    status: int = 200  # of every answer
    cut_after: int | None = None  # bytes of a body after which the connection is dropped
    cuts: int = 1_000_000  # how often
    served: bytes | None = None  # what is sent, where that is not the content
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    endpoint: str = ""

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.sha256(self.content).hexdigest()


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the stand-in while the `with` lasts; `hub.endpoint` says where."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            asked = self.headers.get("Range")
            hub.asked.append((self.command, self.path, asked))
            data = hub.content if hub.served is None else hub.served
            if hub.status != 200 or "/resolve/" not in self.path:
                self.send_response(hub.status if hub.status != 200 else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start, total = 0, len(data)
            if asked and (found := re.fullmatch(r"bytes=(\d+)-(\d*)", asked)):
                start = int(found[1])
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hub.etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(total - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.end_headers()
            if not body:
                return
            piece = data[start:]
            if hub.cut_after is not None and hub.cuts > 0:
                hub.cuts -= 1
                self.wfile.write(piece[: hub.cut_after])
                self.close_connection = True
            else:
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
