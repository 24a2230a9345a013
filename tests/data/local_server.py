"""An HTTP server on this machine, with the faults that tests ask for."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lop.data.fetch import RemoteFile

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several blocks
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """files: path -> content. cut: connections end after so many bytes of the body. ranges: honours Range."""

    def __init__(self):
        self.files, self.cut, self.ranges, self.requests = {}, None, True, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.requests.append(asked)
                content = server.files.get(self.path)
                if content is None:
                    return self.send_error(404)
                start = int(asked.split("=")[1].rstrip("-")) if asked and server.ranges else 0
                if start and start >= len(content):
                    return self.send_error(416)
                self.send_response(206 if asked and server.ranges else 200)
                if asked and server.ranges:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:][: server.cut])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def remote(self, name: str = "data.bin", md5: str | None = MD5, *more: str) -> RemoteFile:
        return RemoteFile(name, (f"{self.url}/{name}", *more), md5, len(CONTENT))

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
