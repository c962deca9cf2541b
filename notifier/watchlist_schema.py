"""The JSON Schema of the watchlist, for editors. `notifier.loading` checks more than a schema can say."""

from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from notifier.config import Config
from notifier.duration import Rate, spell_compact
from notifier.settings import Settings


class _SchemaWriter(GenerateJsonSchema):
    """Writes defaults as the watchlist takes them."""

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON."""
        match dft:
            case timedelta():
                return spell_compact(dft)
            case Rate():
                return dft.text
            case Settings():
                return {}
            case tuple():
                return list(dft)
            case _:
                return super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """Return the schema, as ``notifier schema`` prints it."""
    schema = Config.model_json_schema(schema_generator=_SchemaWriter)
    tidied: dict[str, Any] = _tidy(schema, is_schema=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The watchlist of pixverse-notifier",
        **tidied,
    }


def _tidy(node: Any, *, is_schema: bool) -> Any:
    """Drop generated titles and the ``null`` alternatives, which the watchlist does not take."""
    if isinstance(node, list):
        return [_tidy(item, is_schema=True) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {
        key: _tidy(value, is_schema=key not in {"properties", "$defs"})
        for key, value in node.items()
        if not (is_schema and (key == "title" or (key == "default" and value is None)))
    }
    alternatives = [item for item in tidied.get("anyOf", []) if item != {"type": "null"}]
    if is_schema and len(alternatives) == 1:
        del tidied["anyOf"]
        return {**alternatives[0], **tidied}
    return {**tidied, "anyOf": alternatives} if alternatives else tidied
