// Arrays whose memory is read or written while others may run Python.
#pragma once

#include <vector>

#include "bindings/arrays.h"

namespace handmill {

/// Keeps arrays, and their memory where it is. A reference alone does not: `resize(refcheck=False)`
/// moves it all the same. NumPy refuses that, with a ValueError, for an array that somebody has a
/// weak reference to.
class Pinned {
 public:
  /// Throws py::error_already_set.
  void add(PyObject* array) {
    // A view has the memory of the array at the end of its bases.
    PyObject* owner = array;
    while (true) {
      PyObject* base = as_array(owner)->base;
      if (base == nullptr || !py::detail::npy_api::get().PyArray_Check_(base)) break;
      owner = base;
    }
    arrays_.push_back(py::reinterpret_borrow<py::object>(array));
    owners_.emplace_back(py::reinterpret_borrow<py::object>(owner));
  }

 private:
  std::vector<py::object> arrays_;
  std::vector<py::weakref> owners_;
};

}  // namespace handmill
