"""What a tool can be asked: one declaration gives the schema that agents read and the check of what they send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from esper_schemas.cleaning import printable
from esper_schemas.errors import UsageError

_JSON_TYPES: Mapping[str, str] = {"text": "string", "integer": "integer", "yes or no": "boolean", "texts": "array"}
_MAX_TEXT = 1024
"""Most characters of a text that an agent can send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a tool.

    Attributes:
        name: its name.
        meaning: one sentence for agents.
        kind: what its value is.
        is_required: whether it must be given. One that may be left out may also be null, which means the same.
        choices: the only texts allowed; empty for any text.
        least, most: the smallest and the largest integer, or number of texts.
        default: the value if it is left out.
    """

    name: str
    meaning: str
    kind: Literal["text", "integer", "yes or no", "texts"] = "text"
    is_required: bool = False
    choices: Sequence[str] = ()
    least: int | None = None
    most: int | None = None
    default: Any = None

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the value."""
        text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT}
        if self.choices:
            text = {"type": "string", "enum": list(self.choices)}
        schema: dict[str, Any] = text if self.kind == "text" else {"type": _JSON_TYPES[self.kind]}
        low, high = ("minItems", "maxItems") if self.kind == "texts" else ("minimum", "maximum")
        if self.kind == "texts":
            schema["items"] = text
        schema |= {key: bound for key, bound in ((low, self.least), (high, self.most)) if bound is not None}
        default = {} if self.default is None else {"default": self.default}
        return {**schema, "description": self.meaning, **default}

    def read(self, value: Any) -> Any:
        """Return the value that an agent sent.

        Raises:
            UsageError: it is of another kind, or out of bounds.
        """
        is_valid = {
            "text": lambda: self._is_text(value),
            "integer": lambda: isinstance(value, int) and not isinstance(value, bool) and self._is_within(value),
            "yes or no": lambda: isinstance(value, bool),
            "texts": lambda: isinstance(value, list) and all(map(self._is_text, value)) and self._is_within(len(value)),
        }
        if not is_valid[self.kind]():
            raise UsageError(f"{self.name} must be {self._expected()}, found {printable(repr(value)[:100])}")
        return value

    def _is_text(self, value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and (not self.choices or value in self.choices)

    def _is_within(self, number: int) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    def _expected(self) -> str:
        low, high = self.least, self.most
        bounds = f"{low} or more" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
        bounds = "" if low is None and high is None else f" {bounds}"
        if self.kind == "text":
            return f"one of {', '.join(self.choices)}" if self.choices else f"a text of 1 to {_MAX_TEXT} characters"
        if self.kind == "texts":
            each = f"each one of {', '.join(self.choices)}" if self.choices else f"each of 1 to {_MAX_TEXT} characters"
            return f"a list of{bounds} texts, {each}"
        return f"an integer{' of' if bounds else ''}{bounds}" if self.kind == "integer" else "true or false"


def schema_of(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the JSON schema of the arguments of a tool."""
    return {
        "type": "object",
        "properties": {parameter.name: parameter.schema() for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.is_required],
        "additionalProperties": False,
    }


def read_arguments(tool: str, parameters: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every parameter of a tool: what an agent sent, or else its default.

    Raises:
        UsageError: an argument is unknown, missing, of another kind or out of bounds.
    """
    names = [parameter.name for parameter in parameters]
    for name in given:
        if name not in names:
            raise UsageError(f"{tool} has no argument {printable(name[:100])!r}; it takes {', '.join(names)}")
    values = {}
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is None and parameter.is_required:
            raise UsageError(f"{tool} needs {parameter.name}: {parameter.meaning}")
        values[parameter.name] = parameter.default if value is None else parameter.read(value)
    return values
