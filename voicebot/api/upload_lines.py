"""The lines of an uploaded file, and the rows of a CSV file, read one by one and with limits."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import IO

MAX_LINE = 16 * 1024
"""Bytes of a line, and of a row that has several."""

TOO_LONG = f"a line has at most {MAX_LINE} bytes"

NumberedLine = tuple[int, bytes | None]
"""A line's number, from 1, and its bytes; None: there are too many."""


def lines(stored: IO[bytes]) -> Iterator[NumberedLine]:
    """All lines of a file."""
    number = 0
    while line := stored.readline(MAX_LINE + 1):
        number += 1
        is_long = len(line) > MAX_LINE
        while is_long and not line.endswith(b"\n") and line:
            line = stored.readline(MAX_LINE + 1)
        yield number, None if is_long else line


def csv_rows(stored: IO[bytes]) -> Iterator[tuple[int, list[str] | str]]:
    """The rows that are not empty, each with the number of its first line; or what is wrong with that line.

    A value in quotes may have line breaks. After a line that cannot be read, reading goes on with the next
    one, even if a quote that was left open had made it a part of the row.
    """
    unread = _Unread(lines(stored))
    for number, line in unread:
        if line is None:
            yield number, TOO_LONG
            continue
        row = _Row(line, unread)
        try:
            cells = next(csv.reader(row, strict=True))
        except UnicodeDecodeError:
            unread.back(row.more)
            yield number, "the line is not UTF-8"
        except csv.Error:
            unread.back(row.more)
            yield (
                number,
                "the line is not CSV: a quote is open or not doubled, or a line break is not in quotes",
            )
        else:
            if cells:
                yield number, cells


class _Unread(Iterator[NumberedLine]):
    """Lines, some of which were read before and are read again."""

    def __init__(self, following: Iterator[NumberedLine]) -> None:
        self._following = following
        self._again: deque[NumberedLine] = deque()

    def __next__(self) -> NumberedLine:
        return self._again.popleft() if self._again else next(self._following)

    def back(self, taken: list[NumberedLine]) -> None:
        """Read these lines again."""
        self._again.extendleft(reversed(taken))


class _Row(Iterator[str]):
    """The lines of a row: as many as the parser asks for, up to ``MAX_LINE`` bytes."""

    def __init__(self, first: bytes, unread: _Unread) -> None:
        self.more: list[NumberedLine] = []
        """The lines after the first one."""
        self._line: bytes | None = first
        self._unread = unread
        self._size = 0

    def __next__(self) -> str:
        line, self._line = self._line, None
        if line is None:
            self.more.append(next(self._unread))
            line = self.more[-1][1]
        self._size += len(line or b"")
        if line is None or self._size > MAX_LINE:
            raise StopIteration
        return line.decode("utf-8-sig")
