"""How many lines of one kind a log takes: as many as a person may want to read, and then their number.

Whoever fails says so once and then counts; this is for what says something else each time, as an API may that
makes up its errors. Knows no clock.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Kind:
    room: float
    looked_at: float
    left_out: int = 0
    """Since the last line that was let through."""
    in_a_row: int = 0
    """Since two lines in a row were let through."""


@dataclass(slots=True)
class Floodgate:
    """Lets `burst` lines of each kind through at once and `per_second` after that."""

    burst: int = 100
    per_second: float = 0.5
    _kinds: dict[str, _Kind] = field(default_factory=dict)

    def admit(self, kind: str, now: float) -> tuple[bool, int]:
        """Say whether one more line is let through, and how many were left out since the last one that was.

        For a line that is left out: the how manyth it is of this flood, which ends when two in a row are not.
        """
        known = self._kinds.setdefault(kind, _Kind(self.burst, now))
        passed = max(0.0, now - known.looked_at)
        known.room = min(self.burst, known.room + passed * self.per_second)
        known.looked_at = now
        if known.room < 1:
            known.left_out += 1
            known.in_a_row += 1
            return False, known.in_a_row
        known.room -= 1
        before, known.left_out = known.left_out, 0
        known.in_a_row = known.in_a_row if before else 0
        return True, before
