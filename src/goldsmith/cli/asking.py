"""Asking the person at the terminal while a story is told there: secrets without echo, and yes or no."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from goldsmith.base.events import Events, QuestionAnswered, QuestionAsked
from goldsmith.base.secrets import Secret


class Asker:
    """Puts questions to whoever sits there. Where nobody does, or JSON is wanted, there is no answer (None).

    :param has_given: whether the sudo password is wanted at once (`--ask-become-pass`): then it is read from standard
        input even where that is no terminal, as one line, for machines that start us.
    """

    def __init__(self, events: Events, *, quiet: bool = False, has_given: bool = False) -> None:
        self._events, self._quiet, self._has_given = events, quiet, has_given

    @property
    def can_ask(self) -> bool:
        """Whether somebody sits there."""
        return not self._quiet and sys.stdin.isatty() and sys.stderr.isatty()

    def ask_secret(self, question: str) -> Secret | None:
        """Ask for a secret; it is masked from then on wherever text is shown."""
        if not self.can_ask:
            return None
        with self._pause(question):
            return self._keep(click.prompt(question, hide_input=True, err=True))

    def ask_sudo_password(self, question: str) -> Secret | None:
        """Ask for the password of sudo, at the terminal or as `--ask-become-pass` has announced it."""
        if self.can_ask or not self._has_given:
            return self.ask_secret(question)
        return self._keep(sys.stdin.readline().rstrip("\r\n"))

    def confirm(self, question: str) -> bool | None:
        """Ask for yes or no; no is what Return alone means."""
        if not self.can_ask:
            return None
        with self._pause(question):
            return click.confirm(question, err=True)

    def _keep(self, text: str) -> Secret:
        secret = Secret(text)
        self._events.masker.add(secret)
        return secret

    @contextmanager
    def _pause(self, question: str) -> Iterator[None]:
        """Have the terminal for ourselves while the block runs."""
        self._events.emit(QuestionAsked(question=question))
        try:
            yield
        finally:
            self._events.emit(QuestionAnswered(question=question))
