"""Debian's docker-registry on loopback, with configuration and data of its own; killed and started anew."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from goldsmith.artifacts.http import RegistryOptions
from goldsmith.artifacts.repository import Repository, open_repository

QUICK = RegistryOptions(patience=20)


def find_free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class RealRegistry:
    """A registry that tests may end and start as they like."""

    folder: Path
    tls: dict[str, str] = field(default_factory=dict)
    auth: dict[str, object] = field(default_factory=dict)
    deletes: bool = True
    port: int = field(default_factory=find_free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        if shutil.which("docker-registry") is None:
            pytest.skip("docker-registry is not installed (tests/install-packages.sh)")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "data")},
                "delete": {"enabled": self.deletes},
            },
            "http": {
                "addr": f"127.0.0.1:{self.port}",
                "secret": "of-this-test",
                **({"tls": self.tls} if self.tls else {}),
            },
            **({"auth": self.auth} if self.auth else {}),
        }
        (self.folder / "config.yml").write_text(json.dumps(config))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(self.folder / "config.yml")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, self.read_log()
                assert time.monotonic() < deadline, "the registry does not listen"
                time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def collect_garbage(self, *options: str) -> None:
        """Free room as its administrator does: while nobody uses it."""
        self.kill()
        command = ["docker-registry", "garbage-collect", *options, str(self.folder / "config.yml")]
        subprocess.run(command, check=True, capture_output=True)
        self.start()

    def read_log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def list_calls(self, *words: str) -> list[str]:
        """What it was asked, out of its access log: lines with all of some words."""
        lines = [line for line in self.read_log().splitlines() if 'HTTP/1.1" ' in line]
        return [line for line in lines if all(word in line for word in words)]

    def open(self, path: str = "images", options: RegistryOptions = QUICK) -> Repository:
        return open_repository(f"oci://{self.host}/{path}", options)
