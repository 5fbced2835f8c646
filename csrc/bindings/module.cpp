// Owns: the module bitnet_py._core. One bind_* function per topic; signatures are in _core.pyi.
#include "bindings/arrays.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled engine of bitnet_py; see _core.pyi.";
  m.attr("__version__") = BITNET_VERSION;
  m.attr("__compiler__") = BITNET_COMPILER;
  bitnet::bind_packing(m);
  bitnet::bind_kernels(m);
  bitnet::bind_config(m);
  bitnet::bind_engine(m);
  bitnet::bind_sampler(m);
}
