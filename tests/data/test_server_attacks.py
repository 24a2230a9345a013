"""Servers whose answers are not those of a server."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from attacking import refused

from lop.data import fetch
from lop.data.fetch import RemoteFile

ANSWERS = {
    "length abc": (200, {"Content-Length": "abc"}, b"x"),
    "length negative": (200, {"Content-Length": "-5"}, b"x"),
    "length huge": (200, {"Content-Length": "9" * 15}, b"x"),
    "without end": (200, {}, bytes(5000)),
    "location unparsable": (302, {"Location": "http://[bad"}, b""),
    "location port": (302, {"Location": "http://127.0.0.1:port/"}, b""),
    "location file": (302, {"Location": "file:///etc/passwd"}, b""),
    "location loop": (302, {"Location": "/x"}, b""),
    "wrong offset": (206, {"Content-Range": "bytes 7-9/10", "Content-Length": "3"}, b"abc"),
    "no offset": (206, {"Content-Length": "3"}, b"abc"),
    "drip": (200, {"Content-Length": "500"}, b"", b"x"),
    "drip of headers": (None, {}, b"HTTP/1.0 200 OK\r\nX-Slow: ", b"x"),
    "continue for ever": (None, {}, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "drip of a chunk's length": (200, {"Transfer-Encoding": "chunked"}, b"1\r\nx\r\n", b"0"),
}
AT_LAST = {  # what makes the slow answers whole after all: without a limit of time the file would be taken
    "drip": b"x" * 500,
    "drip of headers": b"\r\n\r\nfile",
    "continue for ever": b"HTTP/1.0 200 OK\r\n\r\nfile",
    "drip of a chunk's length": b"\r\n\r\n",
}


@pytest.mark.parametrize("how", ANSWERS)
def test_servers(how, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    status, headers, body, *drip = ANSWERS[how]
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if "Transfer-Encoding" in headers else "HTTP/1.0"

        def do_GET(self):
            self.close_connection = True
            if status is not None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)
                if drip:
                    ends = time.monotonic() + 2
                    while time.monotonic() < ends and not over.wait(0.05):
                        self.wfile.write(drip[0])
                    self.wfile.write(AT_LAST[how])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        (tmp_path / ".x.part").write_bytes(b"ab")
        remote = RemoteFile("x", (f"http://127.0.0.1:{server.server_port}/x",), None, 500)
        try:
            message = refused(fetch.fetch, remote, tmp_path, lambda done, total: None)
        finally:
            over.set()
            server.shutdown()
            thread.join()
    assert not (tmp_path / "x").exists()
    assert ("bytes in 0.2 seconds" in message) == bool(drip)
