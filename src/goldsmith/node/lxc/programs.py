"""Modules of ours that run as programs of their own: before a guest's mount namespace is entered, inside a hook."""

from __future__ import annotations

import sys
from pathlib import Path

import goldsmith
from goldsmith.base.process import Argument
from goldsmith.node.lxc.assemble import Assembly


def package_path() -> Path:
    """Return the directory to import this package from."""
    return Path(goldsmith.__file__).resolve().parent.parent


def module_command(module: str, *arguments: Argument, site: bool = False) -> list[Argument]:
    """Return a module's command; without `site` it starts in a few milliseconds, with the standard library only."""
    return [sys.executable, *([] if site else ["-S"]), "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """Return what `module_command`s need in their environment."""
    return {"PYTHONPATH": str(package_path())}


def assembled(assembly: Assembly, argv: list[Argument]) -> list[Argument]:
    """Return a command that sees the guest's file system (`assemble`); it too needs `module_environment`."""
    return module_command("goldsmith.node.lxc.assemble", assembly.render(), "--", *argv)
