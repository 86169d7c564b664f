"""How programs are started elsewhere, as a value: a shell's way can be led further, and handed to another process."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from goldsmith.base.process import Argument
from goldsmith.base.secrets import Secret


@dataclass(frozen=True)
class Way:
    """What comes before a program's own words.

    Where a remote shell lies in between, which ssh gives one text that it takes apart again, all words from there on
    are quoted for it, once.
    """

    outer: tuple[str, ...] = ()
    """Words on this machine."""
    inner: tuple[str, ...] | None = None
    """Words behind a remote shell; None where there is none in between."""
    first_input: Secret | None = None
    """A line that comes before a program's own input: a password for sudo."""

    def lead(self, *words: str) -> Way:
        """Return a longer way: from where this one leads, through one more program."""
        if self.inner is None:
            return replace(self, outer=(*self.outer, *words))
        return replace(self, inner=(*self.inner, *words))

    def limit(self, seconds: float) -> Way:
        """Return a way on which a program behind a remote shell ends there a second after its time is up.

        Whoever waits for it here has stopped by then. But no signal crosses ssh, and an ssh that holds the connection
        for others keeps the program's stderr open until it ends there.
        """
        if self.inner is None:
            return self
        return replace(self, inner=("timeout", "--kill-after=2", f"{seconds + 1:g}", *self.inner))

    def wrap(self, argv: Sequence[Argument]) -> list[Argument]:
        """Return what starts a program at the way's end."""
        words = [str(word) for word in argv]
        if self.inner is None:
            return [*self.outer, *words]
        return [*self.outer, shlex.join([*self.inner, *words])]
