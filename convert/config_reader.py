"""Typed reading of a foreign config.json: a field of the wrong kind is refused by name.

Owns: types, defaults, error texts. Does not own: which fields there are (decoder_fields.py,
architectures/).
"""

from collections.abc import Mapping
from typing import Any

from .refusal import refuse

__all__ = ["ConfigReader"]


class ConfigReader:
    """The fields of one JSON object. Null counts as absent, as in Hugging Face's configs."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        """where: names the object in errors, e.g. "model/config.json"."""
        self.fields = fields
        self.where = where

    def get(self, name: str) -> Any:
        """The raw value, None when absent."""
        return self.fields.get(name)

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive integer; without a default it must be there."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            refuse(self.where, f"{name} must be a positive integer, got {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; without a default it must be there."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(self.where, f"{name} must be a number, got {value!r}")
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            refuse(self.where, f"{name} must be true or false, got {value!r}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        value = self._value(name, default)
        if not isinstance(value, str):
            refuse(self.where, f"{name} must be a string, got {value!r}")
        return value

    def block(self, name: str) -> "ConfigReader | None":
        """A nested object, None when absent or empty."""
        value = self.fields.get(name)
        if value is None or value == {}:
            return None
        if not isinstance(value, dict):
            refuse(self.where, f"{name} must be an object, got {value!r}")
        return ConfigReader(value, f"{self.where}: {name}")

    def strings(self, name: str) -> list[str] | None:
        """A list of strings, None when absent."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            refuse(self.where, f"{name} must be a list of strings, got {value!r}")
        return value

    def _value(self, name: str, default: Any) -> Any:
        value = self.fields.get(name)
        if value is not None:
            return value
        if default is None:
            refuse(self.where, f"the field {name} is missing")
        return default
