"""A Hugging Face folder: config.json and safetensors, single or sharded, plain or packed BitNet.

Owns: which kind of weight each tensor of such a folder is. Never opens a pickle, never runs code of
a checkpoint.
"""

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_py.json_file import read_json_object
from bitnet_py.safetensors_file import SafetensorsFolder

from ..absmean_weight import AbsmeanWeight
from ..block_pool import row_blocks
from ..config_reader import ConfigReader
from ..float_bits import FLOAT_BYTES, is_finite, to_float32
from ..refusal import refuse
from ..weights import Weight
from .bitnet_quantization import read_quantization
from .float_weight import FloatWeight
from .packed_weight import FIELDS, PackedWeight, multiplying_scale
from .source import Source

__all__ = ["HuggingFaceSource"]


class HuggingFaceSource(Source):
    """See the module."""

    def __init__(self, folder: Path) -> None:
        """Opens the folder; reads config.json and the headers of its files.

        Raises:
            FileNotFoundError: no such folder, or no config.json in it.
            FormatError: config.json or a safetensors file breaks a rule; names it.
        """
        config_path = folder / "config.json"
        if folder.is_dir() and not config_path.is_file():
            message = f"{folder}: no config.json there; expected the folder of a model"
            raise FileNotFoundError(message)
        self.folder = folder
        self._tensors = SafetensorsFolder(folder)
        try:
            self.config = read_json_object(config_path)
            self.config_name = str(config_path)
            self._bitnet = read_quantization(ConfigReader(self.config, self.config_name))
        except BaseException:
            self._tensors.close()
            raise
        self.tensor_names = self._tensors.entries.keys()
        self._used: set[str] = set()
        self._lock = threading.Lock()  # reading moves the position of a file

    def linear(self, name: str, shape: tuple[int, int]) -> Weight:
        """See Source. Packed, float masters, float with a scale, or plain float."""
        bitnet, module = self._bitnet, name.removesuffix(".weight")
        if bitnet is None or bitnet.keeps_dense(module):
            return self.matrix(name, shape)
        if self._dtype_of(name) == "U8":
            self._check_shape(name, shape, (shape[0] // FIELDS, shape[1]))
            if shape[0] % FIELDS:
                refuse(self._where(name), f"{shape[0]} rows cannot be packed four to a byte")
            return PackedWeight(
                name, shape, self._scale_of(name), self._reader(name), self._where(name)
            )
        if bitnet.has_inverse_scales:
            refuse(
                self._where(name),
                f"expected packed U8 weights, as linear_class bitlinear has them, got "
                f"{self._dtype_of(name)}; if these are plain weights, take quantization_config "
                "out of config.json",
            )
        if bitnet.is_online:
            return AbsmeanWeight(self.matrix(name, shape), "tensor", origin="masters")
        return self._float_weight(
            name, shape, self._scale_of(name) if f"{name}_scale" in self.tensor_names else None
        )

    def matrix(self, name: str, shape: tuple[int, int]) -> Weight:
        """See Source."""
        return self._float_weight(name, shape, None)

    def vector(self, name: str, length: int) -> NDArray[np.float32]:
        """See Source. A bias that the source multiplies together with the output is multiplied."""
        dtype = self._float_dtype_of(name)
        self._check_shape(name, (length,), (length,))
        values = to_float32(self._read(name, 0, length), dtype)
        if not is_finite(values):
            refuse(self._where(name), f"{values[~np.isfinite(values)][0]} among its values")
        weight_name = f"{name.removesuffix('.bias')}.weight"
        is_scaled = self._bitnet is not None and self._bitnet.scales_bias
        if is_scaled and name.endswith(".bias") and f"{weight_name}_scale" in self.tensor_names:
            return values * self._scale_of(weight_name)
        return values

    def keeps_dense(self, module: str) -> bool:
        """See Source."""
        return self._bitnet is not None and self._bitnet.keeps_dense(module)

    def is_same_tensor(self, first: str, second: str) -> bool:
        """See Source."""
        one, two = (self._tensors.entries[name] for name in (first, second))
        if (one.dtype, one.shape) != (two.dtype, two.shape) or len(one.shape) != 2:
            return False
        return all(
            np.array_equal(
                self._tensors.read_rows(first, begin, end),
                self._tensors.read_rows(second, begin, end),
            )
            for begin, end in row_blocks(*one.shape, multiple=1)
        )

    def unused_names(self) -> list[str]:
        """See Source."""
        return sorted(set(self.tensor_names) - self._used)

    @property
    def quantization(self) -> Mapping[str, Any] | None:
        """See Source."""
        return None if self._bitnet is None else self._bitnet.fields

    def close(self) -> None:
        """Lets go of all files."""
        self._tensors.close()

    def _float_weight(
        self, name: str, shape: tuple[int, int], factor: np.float32 | None
    ) -> FloatWeight:
        dtype = self._float_dtype_of(name)
        self._check_shape(name, shape, shape)
        return FloatWeight(name, shape, dtype, self._reader(name), self._where(name), factor)

    def _scale_of(self, name: str) -> np.float32:
        """The multiplying scale of the weight `name`."""
        assert self._bitnet is not None
        scale_name = f"{name}_scale"
        dtype = self._float_dtype_of(scale_name)
        if (shape := self._tensors.entries[scale_name].shape) not in ((1,), ()):
            refuse(self._where(scale_name), f"expected one number, got shape {list(shape)}")
        stored = to_float32(np.array(self._tensors.view(scale_name)).reshape(1), dtype)[0]
        return multiplying_scale(
            stored, is_inverse=self._bitnet.has_inverse_scales, where=self._where(scale_name)
        )

    def _dtype_of(self, name: str) -> str:
        """The dtype of a tensor, which counts as used from now on."""
        if name not in self.tensor_names:
            refuse(self.folder, f"the tensor {name} is missing; the checkpoint is not complete")
        self._used.add(name)
        return self._tensors.entries[name].dtype

    def _float_dtype_of(self, name: str) -> str:
        dtype = self._dtype_of(name)
        if dtype == "U8":
            refuse(
                self._where(name),
                "it is packed (U8), but the quantization_config of config.json does not say how "
                "this module is quantized",
            )
        if dtype not in FLOAT_BYTES:
            refuse(self._where(name), f"dtype {dtype}; expected one of {', '.join(FLOAT_BYTES)}")
        return dtype

    def _check_shape(self, name: str, logical: tuple[int, ...], stored: tuple[int, ...]) -> None:
        found = self._tensors.entries[name].shape
        if found != stored:
            packed = "" if stored == logical else f" (packed {list(logical)})"
            refuse(
                self._where(name),
                f"expected shape {list(stored)}{packed} as config.json says, got {list(found)}",
            )

    def _where(self, name: str) -> str:
        return f"{self._tensors.path_of(name)}: {name}"

    def _reader(self, name: str) -> Callable[[int, int], NDArray[Any]]:
        return functools.partial(self._read, name)

    def _read(self, name: str, begin: int, end: int) -> NDArray[Any]:
        with self._lock:
            return self._tensors.read_rows(name, begin, end)
