"""The status page.

`board` reads what has changed and renders it, `catalogue` sorts and pages the tracks, `wording` says how all
of it is, in the words and numbers of `content`.
"""

from notifier.page.board import StatusPage
from notifier.page.wording import Situation

__all__ = ["Situation", "StatusPage"]
