"""Which modules stay dense: `modules_to_not_convert`, with the meaning transformers gives it.

Owns: the matching rule. A pattern names a module up to a dot, as a plain name or with regular
expression wildcards ("layers.0", "layers.*.mlp", "lm_head"), or ends its name ("down_proj").
"""

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["check_patterns", "matches_module"]

# Patterns come from untrusted files: no groups, no repeats of repeats, few stars, so that no name
# takes long to match.
SAFE_PATTERN: Final = re.compile(r"[\w.\-]+(?:\*[\w.\-]+){0,3}\*?")


def check_patterns(patterns: Sequence[str]) -> None:
    """Raises ValueError for a pattern that is not a name with at most a few stars in it."""
    for pattern in patterns:
        if not SAFE_PATTERN.fullmatch(pattern):
            message = (
                f"modules_to_not_convert: {pattern!r} is not understood; expected a module's name, "
                "the end of one, or a name with '.*' for anything"
            )
            raise ValueError(message)


def matches_module(module: str, patterns: Sequence[str]) -> bool:
    """Whether a module ("model.layers.0.mlp.down_proj") is named by one of the checked patterns."""
    boundary = r"(?:(?<=\.)|(?=\.|$))"
    return any(
        re.match(f"(?:{pattern}){boundary}", module) or module.endswith(pattern)
        for pattern in patterns
    )
