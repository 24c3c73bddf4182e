"""A tiny HTTP server that counts what reaches it."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

UPSTREAM_DATE = "Mon, 06 Jan 2025 10:00:00 GMT"


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked and the number of the request; some paths have replies of their own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: EchoServer

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append(f"{self.command} {self.path}")
        name = self.path.rpartition("/")[2]
        if name == "drop":
            self.close_connection = True
        elif name == "stuck":
            self.close_connection = self.server.release.wait(30)
        elif name == "gone":
            self.reply(404, b'{"detail": "Not Found"}')
        elif name == "nothing":
            self.reply(204, b"")
        elif name == "count":
            self.reply(200, b"12")
        elif name == "chunked":
            self.reply_in_chunks(b'{"n": 1}')
        elif name == "gzip":
            self.reply(200, gzip.compress(b'{"n": 1}'), ("Content-Encoding", "gzip"))
        else:
            reply = {"n": len(self.server.asked), "method": self.command, "path": self.path, "sent": sent}
            self.reply(200, json.dumps({**reply, "host": self.headers["Host"]}).encode())
            # what a real server does after some idle seconds, without a word in the reply before
            self.close_connection = name == "brief"

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

    def reply(self, code: int, body: bytes, *extra: tuple[str, str]) -> None:
        self.head(code, *extra, *([] if code == 204 else [("Content-Length", str(len(body)))]))
        self.wfile.write(body)

    def reply_in_chunks(self, body: bytes) -> None:
        self.head(200, ("Transfer-Encoding", "chunked"))
        for byte in body:
            self.wfile.write(b"1\r\n" + bytes([byte]) + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def head(self, code: int, *headers: tuple[str, str]) -> None:
        self.send_response_only(code)
        for name, value in [("Date", UPSTREAM_DATE), ("X-Seen", "a"), ("X-Seen", "b"), *headers]:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class EchoServer(socketserver.ThreadingTCPServer):
    """The upstream; ``asked`` are the requests that reached it, ``connections`` counts those it accepted."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.connections = 0
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), Echo)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


@contextmanager
def echo_server() -> Iterator[EchoServer]:
    """A running server."""
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()
