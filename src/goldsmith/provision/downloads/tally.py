"""What a guest has downloaded, counted."""

from __future__ import annotations

import threading

from goldsmith.base.units import render_bytes
from goldsmith.provision.downloads.rules import Url


class Tally:
    """Counts downloads; several threads do so at a time."""

    def __init__(self) -> None:
        self.packages = 0
        self.shared = 0
        """Packages that others had downloaded, or were just downloading."""
        self.saved = 0
        """Bytes that were not fetched, those of indexes included."""
        self._lock = threading.Lock()

    def count(self, url: Url) -> None:
        """Count a file that was fetched."""
        with self._lock:
            self.packages += url.is_package

    def count_shared(self, url: Url, size: int) -> None:
        """Count a file that was not; `size` in bytes."""
        with self._lock:
            self.packages += url.is_package
            self.shared += url.is_package
            self.saved += size

    def render(self) -> str:
        """Say it in a few words: `41 packages, 38 shared (96 MB not downloaded)`; nothing where there is nothing."""
        if not self.packages and not self.saved:
            return ""
        told = f"{self.packages} package{'' if self.packages == 1 else 's'}"
        return f"{told}, {self.shared} shared ({render_bytes(self.saved)} not downloaded)" if self.saved else told
