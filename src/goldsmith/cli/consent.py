"""Asking before something is done that cannot be taken back."""

from __future__ import annotations

import sys

import click

from goldsmith.base.errors import UsageError


def check_consent(question: str) -> None:
    """Ask before data is destroyed, or servers are replaced.

    :raises UsageError: the answer is no, or nobody is there to give one.
    """
    if not sys.stdin.isatty():
        raise UsageError("this cannot be taken back, and nobody can be asked", hint="--yes is the answer")
    if not click.confirm(question, err=True):
        raise UsageError("nothing was changed")
