// State: the memory of a Variable.

#include "core/state.h"

#include <pybind11/stl.h>

#include <cstring>

#include "bindings/arrays.h"
#include "bindings/register.h"
#include "core/check.h"
#include "core/copying.h"

namespace handmill {
namespace {

py::object view(const State& state) {
  return array_over(state.data(), state.dtype(), state.shape(), owner_of(state.storage()), false);
}

py::object copy(const State& state) {
  py::object array = new_array(state.dtype(), state.shape());
  copy_bytes(reinterpret_cast<std::byte*>(as_array(array.ptr())->data), state.data(),
             state.bytes());
  return array;
}

void write(State& state, const py::object& array) {
  copy_into(state.data(), state.dtype(), state.shape(), array);
  state.bump();
}

// The number of a scalar, without an array around it.
py::object item(const State& state) {
  require(state.shape().empty(), "item() is for states of shape ()");
  switch (state.dtype()) {
    case Dtype::float32: {
      float value = 0;
      std::memcpy(&value, state.data(), sizeof value);
      return py::float_(static_cast<double>(value));
    }
    case Dtype::float64: {
      double value = 0;
      std::memcpy(&value, state.data(), sizeof value);
      return py::float_(value);
    }
    default:
      return view(state).attr("item")();
  }
}

// New states for all of them, in one call: the slots of an optimizer.
std::vector<std::shared_ptr<State>> like(const std::vector<std::shared_ptr<State>>& states) {
  std::vector<std::shared_ptr<State>> made;
  made.reserve(states.size());
  for (const auto& state : states) {
    made.push_back(std::make_shared<State>(state->shape(), state->dtype()));
  }
  return made;
}

void zero(State& state) {
  state.storage()->clear();
  state.bump();
}

}  // namespace

void register_state(py::module_& m) {
  py::class_<State, std::shared_ptr<State>>(m, "State",
                                            "The content of a Variable; zeros at first.")
      .def(py::init([](std::vector<int64_t> shape, int64_t dtype) {
             for (int64_t dim : shape) require(dim >= 0, "a dimension is negative");
             return std::make_shared<State>(std::move(shape), dtype_of_code(dtype));
           }),
           py::arg("shape"), py::arg("dtype"))
      .def_static("like", &like, py::arg("states"),
                  "States of zeros, each of the shape and dtype of one of these.")
      .def("view", &view, "A read-only array over the memory.")
      .def("copy", &copy, "A copy of the content.")
      .def("write", &write, py::arg("array"),
           "Copies an array of the same shape into the memory, converting its dtype.")
      .def("item", &item, "The number of a state of shape (), as a Python number.")
      .def("zero", &zero,
           "Sets every element to zero; a large state takes no memory until it is written.")
      .def("bump", &State::bump, "Raises the version.")
      .def_property_readonly("version", &State::version)
      .def_property_readonly("nbytes", &State::bytes)
      .def_property_readonly("shape",
                             [](const State& state) { return py::tuple(py::cast(state.shape())); })
      .def_property_readonly("dtype",
                             [](const State& state) { return static_cast<int>(state.dtype()); })
      .def_property_readonly(
          "address", [](const State& state) { return reinterpret_cast<uintptr_t>(state.data()); });
}

}  // namespace handmill
