"""bitnet_py: convert, run and train ternary (1.58-bit) language models.

The names below are imported when first used, so `import bitnet_py` is quick and loads no library.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bitnet_py.errors import FormatError

if TYPE_CHECKING:
    import bitnet_py.convert as convert
    from bitnet_py import ops
    from bitnet_py._core import __version__
    from bitnet_py.demo import DEMO_CHECKPOINT
    from bitnet_py.model import Model, generate, load

__all__ = [
    "DEMO_CHECKPOINT",
    "FormatError",
    "Model",
    "__version__",
    "convert",
    "generate",
    "load",
    "ops",
]

_HOME = {  # name -> the module that has it; a module that is its own name is a submodule
    "DEMO_CHECKPOINT": "bitnet_py.demo",
    "Model": "bitnet_py.model",
    "__version__": "bitnet_py._core",
    "convert": "bitnet_py.convert",
    "generate": "bitnet_py.model",
    "load": "bitnet_py.model",
    "ops": "bitnet_py.ops",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module 'bitnet_py' has no attribute {name!r}"
        raise AttributeError(message)
    module = importlib.import_module(_HOME[name])
    value = module if _HOME[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
