"""How the converter refuses a file: one line that names where, and the rule that is broken."""

from pathlib import Path
from typing import NoReturn

from bitnet_py.errors import FormatError

__all__ = ["refuse"]


def refuse(where: str | Path, rule: str) -> NoReturn:
    """Raises FormatError("where: rule"); `where` names the file, and the tensor or field."""
    message = f"{where}: {rule}"
    raise FormatError(message)
