"""The `mention` setting of the chat targets: the only thing that may ever ping anyone."""

import re
from typing import Annotated

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from notifier.document import Scalar
from notifier.settings import leaf, mistake

_MOST = 20
_FORM = re.compile(r"(user|role):([A-Za-z0-9]{1,40})|here|everyone")


def _read(value: Scalar) -> str:
    if not _FORM.fullmatch(value):
        raise ValueError("is no mention: expected user:ID, role:ID, here or everyone")
    return str(value)


Mention = Annotated[
    str,
    PlainValidator(leaf(_read, "a mention")),
    WithJsonSchema({"type": "string", "pattern": rf"^({_FORM.pattern})$|\$\{{"}),
]


def _few(mentions: tuple[str, ...]) -> tuple[str, ...]:
    if len(mentions) > _MOST:
        raise mistake(f"expected at most {_MOST} mentions, found {len(mentions)}")
    return tuple(dict.fromkeys(mentions))


Mentions = Annotated[tuple[Mention, ...], AfterValidator(_few)]
"""Few enough for any message, and none twice: Discord refuses a repeated one."""
