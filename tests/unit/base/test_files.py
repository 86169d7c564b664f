"""Files that are replaced as a whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goldsmith.base.files import write_atomic

WRITERS, ROUNDS = 8, 60


def test_threads_that_write_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Builds side by side are threads: each must have a temporary file of its own."""
    file, start = tmp_path / "key", threading.Barrier(WRITERS)

    def write(number: int) -> None:
        start.wait()
        for _ in range(ROUNDS):
            write_atomic(file, str(number) * 1000)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    text = file.read_text()
    assert text == text[0] * 1000
    assert list(tmp_path.iterdir()) == [file]
