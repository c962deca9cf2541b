"""The `mention` setting of the chat targets: the only thing that may ever ping anyone."""

import re
from typing import Annotated

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from notifier.document import Scalar
from notifier.settings import leaf, mistake

_MOST = 20
_DIGITS = re.compile(r"[0-9]{1,20}")
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


def _read_numeric(value: Scalar) -> str:
    text = _read(value)
    identifier = text.partition(":")[2]
    if identifier and not _DIGITS.fullmatch(identifier):
        raise ValueError("names somebody by letters: an ID has only digits here")
    return text


NumericMention = Annotated[
    str,
    PlainValidator(leaf(_read_numeric, "a mention")),
    WithJsonSchema({"type": "string", "pattern": r"^((user|role):[0-9]{1,20}|here|everyone)$|\$\{"}),
]


def _few(mentions: tuple[str, ...]) -> tuple[str, ...]:
    if len(mentions) > _MOST:
        raise mistake(f"expected at most {_MOST} mentions, found {len(mentions)}")
    return tuple(dict.fromkeys(mentions))


Mentions = Annotated[tuple[Mention, ...], AfterValidator(_few)]
"""Few enough for any message, and none twice."""
NumericMentions = Annotated[tuple[NumericMention, ...], AfterValidator(_few)]
"""The same where IDs are numbers, as Discord's are."""
