"""The table of the API's calls."""

from __future__ import annotations

import re
from pathlib import Path

from goldsmith import pve
from goldsmith.pve.calls import CALLS, find_call, render_calls


def test_a_request_is_found() -> None:
    found = find_call("GET", "/nodes/pve1/lxc/100/config")
    assert found is not None
    assert found.needs == "VM.Audit on the guest"
    assert find_call("DELETE", "/nodes/pve1/storage/local/content/vztmpl/x.tar.zst") is not None
    assert find_call("GET", "/nodes/pve1/lxc/100/config/more") is None
    assert find_call("PUT", "/version") is None


def test_every_call_is_there_once() -> None:
    assert len({(call.verb, call.path) for call in CALLS}) == len(CALLS)


def test_every_call_in_the_code_is_in_the_table() -> None:
    """The paths as the code writes them; what is computed there stands for one part of a path."""
    folder = Path(next(iter(pve.__path__)))
    text = "\n".join(file.read_text() for file in folder.glob("*.py"))
    found = re.findall(r'_door\.(get|post|put|delete)\(\s*f?"(/[^"]*)"', text)
    assert len(found) > 10
    for verb, path in found:
        request = re.sub(r"\{[^}]*\}", "x", path.replace("{kind}", "lxc"))
        assert find_call(verb.upper(), request) is not None, (verb, path)


def test_the_table_is_in_the_docs() -> None:
    page = Path(__file__).parents[3] / "docs/proxmox.md"
    assert render_calls() in page.read_text(), "write it anew: python -m goldsmith.pve.calls"
