"""A terminal small enough to read: what a person has on the screen, and above it, after some output."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen:
    """Understands what rich's live display writes: cursor up, erase line, carriage return, line feed, text."""

    def __init__(self, width: int = 100) -> None:
        self.width = width
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, output: str) -> None:
        """Take output."""
        position = 0
        for found in _TOKEN.finditer(output):
            assert found.start() == position, f"unknown output {output[position : position + 20]!r}"
            position = found.end()
            argument, command, back, down, text = found.groups()
            if command:
                self._obey(argument, command)
            elif back:
                self.column = 0
            elif down:
                self._go_down()
            else:
                self._write(text)
        assert position == len(output)

    def _obey(self, argument: str, command: str) -> None:
        if command == "A":
            self.row = max(0, self.row - int(argument or 1))
        elif command == "K":
            self.lines[self.row] = ""
        elif command not in "mhl":
            raise AssertionError(f"unknown command {argument}{command}")

    def _go_down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def _write(self, text: str) -> None:
        for letter in text:
            if self.column == self.width:
                self._go_down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def text(self) -> str:
        """All lines."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n") + "\n"
