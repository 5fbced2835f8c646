"""What a user may ask of a conversion, checked once.

Owns: the defaults and which options go together.
"""

from dataclasses import dataclass
from typing import Final

from .formats import format_names
from .formats.ternary import TERNARY_FORMATS
from .methods import Method, method_by_name
from .module_patterns import check_patterns

__all__ = ["TERNARY_HEAD", "ConvertOptions", "head_names"]

TERNARY_HEAD: Final = "ternary"  # absmean, or lossless where the head is ternary already
DEFAULT_SHARD_BYTES: Final = 5_000_000_000  # as Hugging Face cuts them


@dataclass(frozen=True)
class ConvertOptions:
    """The options of `convert`.

    Attributes:
        method: one of `methods()`.
        scale: granularity of absmean scales, "tensor", "row" or "group"; None: the default of
            the method.
        head: format of the output head, one of `head_names()`; None: the method's default.
        ternary_store: format of all ternary codes, one of TERNARY_FORMATS.
        modules_to_not_convert: modules that stay dense, as in Hugging Face's configs.
        shard_bytes: no file is larger, unless one tensor is.
    """

    method: str = "auto"
    scale: str | None = None
    head: str | None = None
    ternary_store: str = TERNARY_FORMATS[0]
    modules_to_not_convert: tuple[str, ...] = ()
    shard_bytes: int = DEFAULT_SHARD_BYTES

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown name, or options that do not go together."""
        kinds = self.chosen_method.scale_kinds
        if self.scale is not None and self.scale not in kinds:
            rule = f"one of {', '.join(kinds)}" if kinds else f"no scale with method {self.method}"
            message = f"[convert] expected {rule}, got scale {self.scale!r}"
            raise ValueError(message)
        if self.head is not None and self.head not in head_names():
            message = (
                f"[convert] expected head to be one of {', '.join(head_names())}, got {self.head!r}"
            )
            raise ValueError(message)
        if self.ternary_store not in TERNARY_FORMATS:
            message = (
                f"[convert] expected ternary_store to be one of {', '.join(TERNARY_FORMATS)}, "
                f"got {self.ternary_store!r}"
            )
            raise ValueError(message)
        if self.shard_bytes < 1:
            message = f"[convert] expected a positive shard size, got {self.shard_bytes}"
            raise ValueError(message)
        check_patterns(self.modules_to_not_convert)

    @property
    def chosen_method(self) -> Method:
        """The method by its name."""
        return method_by_name(self.method)

    @property
    def scale_kind(self) -> str:
        """The granularity of scales; "none" for a method that has none."""
        return self.scale or next(iter(self.chosen_method.scale_kinds), "none")


def head_names() -> list[str]:
    """What --head takes."""
    return [*(name for name in format_names() if name not in TERNARY_FORMATS), TERNARY_HEAD]
