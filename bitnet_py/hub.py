"""Where a model lies: a local folder, or a Hugging Face id whose files are downloaded.

Owns: telling one from the other. Does not own: the cache (`huggingface_hub`, HF_HOME and the other
variables of its own).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bitnet_py.model_files import HUB_PATTERNS

__all__ = ["resolve_folder"]

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_folder(
    path_or_id: str | Path,
    revision: str | None = None,
    file_patterns: Sequence[str] = HUB_PATTERNS,
) -> Path:
    """The local folder of a model; an id like "owner/name" that is no folder here is downloaded.

    Args:
        path_or_id: a folder, or a Hugging Face id.
        revision: branch, tag or commit of an id.
        file_patterns: which files of an id are fetched.

    Raises:
        ValueError: neither a text nor a path.
        FileNotFoundError: no such folder, and no such id that can be reached.
        NotADirectoryError: a file where a folder is expected.
    """
    given: object = path_or_id
    if not isinstance(given, (str, Path)):
        kind = type(path_or_id).__name__
        message = f"[load] expected a folder, or owner/name on Hugging Face, got {kind}"
        raise ValueError(message)
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        message = f"{folder}: a folder is expected, this is a file"
        raise NotADirectoryError(message)
    if isinstance(path_or_id, Path) or not HUB_ID.fullmatch(path_or_id):
        message = f"{folder}: no such folder (and not a Hugging Face id, which is owner/name)"
        raise FileNotFoundError(message)

    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot = huggingface_hub.snapshot_download(
            path_or_id, revision=revision, allow_patterns=list(file_patterns)
        )
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        message = f"{path_or_id}: no such folder here, and not fetched from Hugging Face: {reason}"
        raise FileNotFoundError(message) from error
    return Path(snapshot)
