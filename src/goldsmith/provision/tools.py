"""Versions of the tools that provision an image: part of what it was made of, and of the key of its layers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

TOOLS = ("ansible-core", "ansible-runner", "mitogen")


def read_tool_versions() -> dict[str, str]:
    """Return the version of each installed tool, by its package's metadata: nothing of Ansible is imported for it."""
    found = {name: find_version(name) for name in TOOLS}
    return {name: text for name, text in found.items() if text} | {"python": platform.python_version()}


def find_version(package: str) -> str:
    """Return the version of an installed package; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
