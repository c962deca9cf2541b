"""The `mention` setting of the chat targets: the only thing that may ever ping anyone."""

import re
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

from notifier.document import Scalar
from notifier.settings import leaf

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
