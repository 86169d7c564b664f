"""The page about all commands is what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

from goldsmith.cli.main import COMMANDS
from goldsmith.cli.reference import PAGE, render_page, write_page

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_up_to_date() -> None:
    written = (DOCS / PAGE).read_text(encoding="utf-8")
    assert written == render_page(), "write it anew: python -m goldsmith.cli.reference docs"


def test_every_command_has_a_section() -> None:
    page = render_page()
    names = [*COMMANDS, "node start", "node stop", "node status", "node doctor", "images show", "images export"]
    for name in names:
        assert f"## goldsmith {name}\n" in page


def test_the_page_is_written_into_a_directory(tmp_path: Path) -> None:
    write_page(tmp_path)
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == render_page()
