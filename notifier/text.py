"""Text from outside made fit to be shown: cleaned of what misleads, cut where it is too long.

Knows no chat service: each service's own escaping lives with its target.
"""

import re
import unicodedata

_ELLIPSIS = "…"
_KEPT_CONTROLS = "\n\t"
# Marks that steer direction or join without being seen: U+200B-200F, 202A-202E, 2060-206F, FEFF and friends.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufeff\uffa0]")
# NB: unassigned may only mean younger than this Python: new emoji stay, what no font will ever draw goes.
_IGNORABLE = re.compile(
    "[\u2065\ufdd0-\ufdef\ufff0-\ufff8\U000e0000-\U000e0fff]|"
    + "|".join(f"[{chr(plane | 0xFFFE)}{chr(plane | 0xFFFF)}]" for plane in range(0, 0x110000, 0x10000))
)
_JOINERS = "\u200c\u200d"
_WORD_BREAK_REACH = 24


def clean(text: str) -> str:
    """Return the text without control, bidirectional and invisible characters; line ends become ``LF``.

    Lone surrogates become U+FFFD. A single zero-width joiner between visible characters stays, since emoji
    and several scripts need it; runs of them do not.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    kept = "".join(_shown(character) for character in _INVISIBLE.sub("", text))
    return re.sub(f"(?<![^\\s])[{_JOINERS}]+|[{_JOINERS}]+(?!\\S)|([{_JOINERS}])[{_JOINERS}]+", r"\1", kept)


def _shown(character: str) -> str:
    if character in _KEPT_CONTROLS or character in _JOINERS:
        return character
    match unicodedata.category(character):
        case "Cs":
            return "\ufffd"
        case "Cc" | "Cf" | "Co":
            return ""
        case "Cn" if _IGNORABLE.match(character):
            return ""
        case _:
            return character


def one_line(text: str) -> str:
    """Return the cleaned text with every run of white space folded into one space, and none around it."""
    return " ".join(clean(text).split())


def shorten(text: str, limit: int) -> str:
    """Cut the text to at most `limit` code points, at the end of a word where one is near, and mark it ``…``.

    Code points are what Slack and Discord count. A limit below 1 gives an empty text.
    """
    if len(text) <= limit:
        return text
    if limit < 1:
        return ""
    head = text[: limit - 1]
    space = max(head.rfind(" "), head.rfind("\n"))
    if space >= max(1, len(head) - _WORD_BREAK_REACH):
        head = head[:space]
    return head.rstrip() + _ELLIPSIS


def minutes(seconds: float) -> str:
    """Write a length or a wait as people read it: ``0:07``, ``3:22``, ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{rest // 60}:{rest % 60:02}"


def headed(heading: str | None, name: str) -> str:
    """Return a name behind what stands before it, if anything does."""
    return f"{heading}: {name}" if heading else name
