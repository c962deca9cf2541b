"""Something that is said when its text changes and counted when it does not, so that no log is flooded."""

import re
from dataclasses import dataclass

_CHANGING = re.compile(r"(?<!^HTTP )\b(?:(?=\w*\d)\w{8,}|(?=[a-fA-F]*\d)[0-9a-fA-F]+\b|\d[\d:.,TZ+-]*)")
"""What may be another one each time: a number, a time, an address, an id.

The status of an answer is none: it stands behind HTTP at the beginning.
"""


@dataclass(slots=True)
class Repetition:
    """Remembers the last text and how often it came. Texts that differ in numbers only are the same."""

    text: str | None = None
    count: int = 0

    def news(self, text: str) -> int | None:
        """Take a text; return how often the one before it came when this is another one, else None."""
        text = _CHANGING.sub("#", text)
        if text == self.text:
            self.count += 1
            return None
        before, self.text, self.count = self.count, text, 1
        return before

    def forget(self) -> None:
        """Take the next text for a new one, whatever came before."""
        self.text, self.count = None, 0
