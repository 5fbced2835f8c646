"""JSON objects from files that may be hostile: strict, bounded, and every refusal names its rule.

Owns: parsing. Does not own: what the fields mean.
"""

import json
import re
from pathlib import Path
from typing import Any, Final, NoReturn

from bitnet_py.errors import FormatError

__all__ = ["parse_json_object", "read_json_object"]

MAX_JSON_BYTES: Final = 16 * 1024 * 1024  # configs and indexes; the largest in use are some 2 MB
LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")  # or half of a pair


def parse_json_object(text: bytes, where: str) -> dict[str, Any]:
    """Parses one JSON object.

    Args:
        text: the file's bytes.
        where: names the text in errors, e.g. "model/config.json".

    Raises:
        FormatError: not UTF-8, not JSON, not an object, a name that occurs twice in an object, half
            of a surrogate pair, or nested too deeply.
    """

    def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        parsed: dict[str, Any] = {}
        for name, value in pairs:
            if name in parsed:
                message = f"{where}: the name {name!r} occurs twice in one JSON object"
                raise FormatError(message)
            parsed[name] = value
        return parsed

    def no_constant(text: str) -> NoReturn:
        message = f"{where}: {text} is not JSON"
        raise FormatError(message)

    try:
        parsed = json.loads(
            text.decode("utf-8"), object_pairs_hook=unique_names, parse_constant=no_constant
        )
    except FormatError:
        raise
    except UnicodeDecodeError as error:
        message = f"{where}: not UTF-8: {error.reason} at byte {error.start}"
        raise FormatError(message) from None
    except RecursionError:
        message = f"{where}: JSON nested too deeply"
        raise FormatError(message) from None
    except ValueError as error:  # JSONDecodeError, or an integer of thousands of digits
        message = f"{where}: not JSON: {error}"
        raise FormatError(message) from None
    if LONE_SURROGATE.search(text) is not None:
        try:
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            message = f"{where}: half of a surrogate pair, which is no character"
            raise FormatError(message) from None
    if not isinstance(parsed, dict):
        message = f"{where}: expected a JSON object, got {type(parsed).__name__}"
        raise FormatError(message)
    return parsed


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: the file is too large, or breaks a rule of `parse_json_object`.
    """
    size_bytes = path.stat().st_size
    if size_bytes > MAX_JSON_BYTES:
        message = f"{path}: {size_bytes} bytes; a JSON file here has at most {MAX_JSON_BYTES}"
        raise FormatError(message)
    return parse_json_object(path.read_bytes(), str(path))
