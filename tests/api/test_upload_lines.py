"""Rows of CSV files as they come out of other programs."""

from __future__ import annotations

import io

import pytest

from voicebot.api.upload_lines import MAX_LINE, csv_rows


def rows(content: bytes) -> list[tuple[int, list[str] | None]]:
    """The rows with the numbers of their lines; None: the line cannot be read."""
    found = csv_rows(io.BytesIO(content))
    return [(number, None if isinstance(cells, str) else cells) for number, cells in found]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", [(1, ["a", "b"]), (2, ["1", "2"])]),
        (b'a,b\n\n1,"x, ""y"""\n', [(1, ["a", "b"]), (3, ["1", 'x, "y"'])]),
        (b'a,b\n1,"x\n\ny"\n2,z', [(1, ["a", "b"]), (2, ["1", "x\n\ny"]), (5, ["2", "z"])]),
        (b'a\n"open\nb\nc\n', [(1, ["a"]), (2, None), (3, ["b"]), (4, ["c"])]),
        (b'a\n"x"y\nb\n', [(1, ["a"]), (2, None), (3, ["b"])]),
        ("a\nJörg\nb\n".encode("latin-1"), [(1, ["a"]), (2, None), (3, ["b"])]),
        (b"a\nx\ry\nb\n", [(1, ["a"]), (2, None), (3, ["b"])]),
        (b"a\n" + b"x" * MAX_LINE + b"\nb\n", [(1, ["a"]), (2, None), (3, ["b"])]),
    ],
)
def test_rows_of_a_file(content: bytes, expected: list[tuple[int, list[str] | None]]) -> None:
    """Values in quotes may have line breaks; a line that cannot be read does not spoil those after it."""
    assert rows(content) == expected


def test_an_open_quote_reads_a_limited_part_of_the_file() -> None:
    """The lines after it are rows again, all of them."""
    lines = 4 * MAX_LINE // 10
    found = rows(b'"open\n' + b"123456789\n" * lines)
    assert found[0] == (1, None)
    assert found[1:] == [(2 + place, ["123456789"]) for place in range(lines)]
