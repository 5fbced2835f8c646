"""What the converter asks of a checkpoint, whatever its kind.

Owns: the interface. A source knows how its numbers are stored; it does not know what its tensors
mean (architectures/) nor how they will be stored (plan.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..weights import Weight

__all__ = ["Source"]


class Source(ABC):
    """An open checkpoint. Use it as a context.

    Attributes:
        folder: where it lies; tokenizer files are copied from here.
        config: the fields of config.json, in Hugging Face's names.
        config_name: names the config in errors.
        tensor_names: every tensor of the checkpoint.
    """

    folder: Path
    config: Mapping[str, Any]
    config_name: str
    tensor_names: Collection[str]

    @abstractmethod
    def linear(self, name: str, shape: tuple[int, int]) -> Weight:
        """The weight of a linear layer: ternary where the source says so, else float.

        Raises:
            FormatError: no such tensor, another shape, an unknown dtype or scale.
        """

    @abstractmethod
    def matrix(self, name: str, shape: tuple[int, int]) -> Weight:
        """A matrix that no source quantizes: an embedding."""

    @abstractmethod
    def vector(self, name: str, length: int) -> NDArray[np.float32]:
        """A norm or bias, float32 [length], finite."""

    @abstractmethod
    def keeps_dense(self, module: str) -> bool:
        """Whether the source itself excludes a module from its quantization."""

    @abstractmethod
    def is_same_tensor(self, first: str, second: str) -> bool:
        """Whether two tensors hold the same bytes."""

    @abstractmethod
    def unused_names(self) -> list[str]:
        """The tensors that nothing has asked for yet, sorted."""

    @property
    @abstractmethod
    def quantization(self) -> Mapping[str, Any] | None:
        """What a reader may want to know of the source's own quantization."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of all files."""

    def __enter__(self) -> "Source":
        """Gives the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the files."""
        self.close()
