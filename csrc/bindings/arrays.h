// ndarrays at the edge: what they are, and making them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <bit>
#include <memory>
#include <optional>
#include <span>

#include "core/buffer.h"
#include "core/dtype.h"

namespace handmill {

namespace py = pybind11;

using ArrayProxy = py::detail::PyArray_Proxy;

/// Whether the object is an ndarray and not of a subclass.
inline bool is_plain_array(PyObject* object) {
  return Py_TYPE(object) == py::detail::npy_api::get().PyArray_Type_;
}

inline const ArrayProxy* as_array(PyObject* array) { return py::detail::array_proxy(array); }

inline std::span<const Py_ssize_t> array_shape(const ArrayProxy* array) {
  return {array->dimensions, static_cast<size_t>(array->nd)};
}

/// Whether the elements lie one after another, aligned, in the byte order of the machine.
inline bool is_ready(const ArrayProxy* array) {
  constexpr int kFlags =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  constexpr char kOther = std::endian::native == std::endian::little ? '>' : '<';
  return (array->flags & kFlags) == kFlags &&
         py::detail::array_descriptor_proxy(array->descr)->byteorder != kOther;
}

/// NumPy's number of the element type: one to one with what dtype_of gives, given is_ready.
inline int type_number(const ArrayProxy* array) {
  return py::detail::array_descriptor_proxy(array->descr)->type_num;
}

/// The dtype of the elements; none if it is none of ours.
std::optional<Dtype> dtype_of(const ArrayProxy* array);

/// The dtype of the elements as text, for messages.
std::string dtype_text(const ArrayProxy* array);

/// NumPy's descriptor, borrowed.
PyObject* descriptor_of(Dtype dtype);

/// A new array of any content. Throws error_already_set.
py::object new_array(Dtype dtype, std::span<const int64_t> shape);

/// An array over memory that `owner` keeps alive.
py::object array_over(void* data, Dtype dtype, std::span<const int64_t> shape, py::handle owner,
                      bool writable);

/// A capsule that keeps the buffer alive.
py::object owner_of(std::shared_ptr<Buffer> buffer);

/// Copies any array-like into memory, converting the elements. Throws std::invalid_argument if
/// the shapes differ.
void copy_into(void* data, Dtype dtype, std::span<const int64_t> shape, py::handle source);

/// The array of an argument: contiguous, ready, of one of our dtypes. Throws py::type_error.
py::array ready_array(py::handle object, const char* what);

}  // namespace handmill
