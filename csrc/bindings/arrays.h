// Owns: the way from numpy arrays to pointers: dtype, rank, contiguity and shape are checked here
// and nowhere below. Messages name the argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/check.h"

namespace bitnet {

namespace py = pybind11;

inline std::string shape_text(const py::array& array) {
  std::string text = "[";
  for (py::ssize_t i = 0; i < array.ndim(); ++i)
    text += (i ? ", " : "") + std::to_string(array.shape(i));
  return text + "]";
}

// A C-contiguous array of exactly T with `ndim` dimensions; no silent conversion or copy.
template <class T>
py::array_t<T> require_array(const py::handle& value, const char* op, const char* name, int ndim) {
  check_arg(py::isinstance<py::array>(value), op, "expected ", name, " to be a numpy array, got ",
            std::string(py::str(py::type::of(value))));
  const auto array = py::reinterpret_borrow<py::array>(value);
  check_arg(py::dtype::of<T>().equal(array.dtype()), op, "expected ", name, " of dtype ",
            std::string(py::str(py::dtype::of<T>())), ", got ",
            std::string(py::str(array.dtype())));
  check_arg(array.ndim() == ndim, op, "expected ", name, " with ", ndim, " dimensions, got shape ",
            shape_text(array));
  check_arg((array.flags() & py::array::c_style) != 0, op, "expected ", name,
            " to be C-contiguous; use numpy.ascontiguousarray");
  return py::reinterpret_borrow<py::array_t<T>>(value);
}

inline void require_shape(const py::array& array, const char* op, const char* name,
                          const std::vector<std::int64_t>& shape) {
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  std::string want = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    same = same && array.shape(static_cast<py::ssize_t>(i)) == shape[i];
    want += (i ? ", " : "") + std::to_string(shape[i]);
  }
  check_arg(same, op, "expected ", name, " of shape ", want, "], got ", shape_text(array));
}

// A new array of the given shape.
template <class T>
py::array_t<T> new_array(std::initializer_list<std::int64_t> shape) {
  return py::array_t<T>(std::vector<py::ssize_t>(shape.begin(), shape.end()));
}

void bind_packing(py::module_& m);
void bind_kernels(py::module_& m);
void bind_config(py::module_& m);
void bind_engine(py::module_& m);
void bind_sampler(py::module_& m);

}  // namespace bitnet
