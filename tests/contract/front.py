"""What stands in front of a registry elsewhere, and Debian's has not: a referrers API, pages, blobs at another host.

It passes everything else on. Its referrers are made of the manifests that went through it.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Front:
    """What is in the way, and what was seen."""

    port: int
    """Of the registry behind."""
    redirect_blobs: bool = False
    ignore_ranges: bool = False
    break_after: int = 0
    """Bytes of a blob after which the connection is cut, as often as `breaks` says."""
    breaks: int = 0
    page: int = 1
    referrers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    own: int = 0


def _make_handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            front.seen.append((self.command, self.path, dict(self.headers.items())))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "/referrers/" in url.path:
                return self.give_referrers(url.path, parse_qs(url.query))
            is_blob = self.command == "GET" and "/blobs/sha256" in url.path
            if is_blob and front.redirect_blobs and not url.query:
                self.send_response(307)
                self.send_header("Location", f"http://localhost:{front.own}{url.path}?signed=1")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            return self.pass_on(body, is_blob)

        def give_referrers(self, path: str, query: dict[str, list[str]]) -> None:
            found = front.referrers.get(path.rpartition("/")[2], [])
            start = int(query.get("from", ["0"])[0])
            content = json.dumps({"schemaVersion": 2, "manifests": found[start : start + front.page]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", INDEX)
            if start + front.page < len(found):
                self.send_header("Link", f'<{path}?from={start + front.page}>; rel="next"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def pass_on(self, body: bytes, is_blob: bool) -> None:
            behind = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
            dropped = {"range"} if front.ignore_ranges and is_blob else set()
            headers = {key: value for key, value in self.headers.items() if key.lower() not in dropped}
            behind.request(self.command, self.path, body or None, headers)
            answer = behind.getresponse()
            content = answer.read()
            behind.close()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(key, value)
            if self.command == "PUT" and answer.status == 201 and self.note_subject(body):
                self.send_header("OCI-Subject", "noted")
            self.end_headers()
            if is_blob and front.breaks and len(content) > front.break_after:
                front.breaks -= 1
                self.wfile.write(content[: front.break_after])
                self.close_connection = True
                return
            self.wfile.write(content)

        def note_subject(self, body: bytes) -> bool:
            manifest = json.loads(body) if body.startswith(b"{") else {}
            if "subject" not in manifest:
                return False
            entry = {
                "mediaType": manifest["mediaType"], "digest": f"sha256:{sha256(body).hexdigest()}", "size": len(body),
                "artifactType": manifest["artifactType"], "annotations": manifest.get("annotations", {}),
            }  # fmt: skip
            front.referrers.setdefault(manifest["subject"]["digest"], []).insert(0, entry)  # in no order of ours
            return True

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - names of the library

    return Handler


@contextmanager
def open_front(front: Front) -> Iterator[str]:
    """Stand in front of a registry while the block runs; gives host and port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(front)) as listening:
        front.own = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"127.0.0.1:{front.own}"
        listening.shutdown()
        thread.join()
