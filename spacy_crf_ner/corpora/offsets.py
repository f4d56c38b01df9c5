"""Where other programs count characters in another way: from their offsets to ours, checked against what they quote."""

import re
from bisect import bisect_left
from typing import Dict, List, NamedTuple, Optional, Tuple

Span = Tuple[int, int]
CODE_POINTS, UTF_16 = "code-points", "utf-16"
# Ways to count: characters as Python has them; those above U+FFFF as two, as JavaScript has them; a carriage return and
# a line feed as one.
LINE_ENDS = "line ends as one"
GAPS = re.compile(r"(?:\\[nr]|\s)+")
AT_START, AT_END = re.compile(r"\\[nr]|\s"), re.compile(r"(?:\\[nr]|\s)\Z")


class Told(NamedTuple):
    """span (Optional[Span]): Where a quoted text stands; None: nowhere. how (str): Why it is not where it was said to
    be; "": it is."""

    span: Optional[Span]
    how: str


class Offsets:
    """The ways to count the characters of a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.wide = not text.isascii() and max(text) > "\uffff"
        self._tables: Dict[str, List[int]] = {}
        self._wide: Optional[List[int]] = None

    def span(self, start: int, end: int, unit: str) -> Optional[Span]:
        """First character and last + 1 as Python counts; None: out of range, empty, or inside a character."""
        if unit == CODE_POINTS or (unit == UTF_16 and not self.wide):
            return (start, end) if 0 <= start < end <= len(self.text) else None
        table = self._table(unit)
        if not 0 <= start < end < len(table) or -1 in (table[start], table[end]):
            return None
        return table[start], table[end]

    def counted(self, position: int, unit: str) -> int:
        """How another program counts one of our positions."""
        return position if unit == CODE_POINTS else position + bisect_left(self._wide_ones(), position)

    def _wide_ones(self) -> List[int]:
        if self._wide is None:
            self._wide = [i for i, character in enumerate(self.text) if character > "\uffff"] if self.wide else []
        return self._wide

    def _table(self, unit: str) -> List[int]:
        if unit not in self._tables:
            table: List[int] = []
            for i, character in enumerate(self.text):
                if unit == UTF_16:
                    table += [i, -1] if character > "\uffff" else [i]
                elif not (character == "\n" and i and self.text[i - 1] == "\r"):
                    table.append(i)
            self._tables[unit] = [*table, len(self.text)]
        return self._tables[unit]

    def says(self, span: Optional[Span], quoted: str) -> bool:
        """Whether a quoted text stands there. White space is not compared: browsers change it."""
        return span is not None and _squeezed(self.text[span[0] : span[1]]) == _squeezed(quoted)

    def says_well(self, span: Optional[Span], quoted: str) -> bool:
        """Whether it does, and begins and ends with white space only if that is quoted."""
        if span is None or not self.says(span, quoted):
            return False
        ends = [(bool(AT_START.match(text)), bool(AT_END.search(text))) for text in (self.text[slice(*span)], quoted)]
        return ends[0] == ends[1]

    def find(self, start: int, end: int, unit: str, quoted: str) -> Told:
        """Where a quoted text is, starting from offsets that may be wrong.

        unit (str): How they are counted. RETURNS (Told): Where it stands as they say, or if they are counted in
            another way, or if its last character is counted too; otherwise where it stands, if only once in the text.
        """
        said = self.span(start, end, unit)
        if self.says(said, quoted):
            return Told(said, "")
        other = UTF_16 if unit == CODE_POINTS else CODE_POINTS
        ways = [
            (self.span(start, end, other), f"its offsets count {NAMES[other]}"),
            (self.span(start, end + 1, unit), "its end is that of its last character"),
            (self.span(start, end, LINE_ENDS), "its offsets count line ends as one character"),
        ]
        for span, how in ways:
            if self.says_well(span, quoted):
                return Told(span, how)
        words = [word for word in GAPS.split(quoted) if word]
        found = [*re.finditer(r"(?:\\[nr]|\s)*".join(map(re.escape, words)), self.text)][:2] if words else []
        if len(found) == 1:
            return Told(found[0].span(), "it stands there alone")
        return Told(None, "it is not in the text" if not found else "it is there more than once")


NAMES = {CODE_POINTS: "code points", UTF_16: "UTF-16 units"}


def _squeezed(text: str) -> str:
    return GAPS.sub("", text)
