#include "bindings/call.h"

#include <algorithm>
#include <array>
#include <new>
#include <stdexcept>

#include "bindings/gil.h"
#include "bindings/pinned.h"
#include "core/check.h"

namespace handmill {
namespace {

// Pointers of one call: on the stack unless there are very many.
class Pointers {
 public:
  explicit Pointers(size_t count) {
    if (count > few_.size()) many_.resize(count);
    data_ = many_.empty() ? few_.data() : many_.data();
  }
  void** data() { return data_; }

 private:
  std::array<void*, 16> few_;
  std::vector<void*> many_;
  void** data_;
};

bool lies_in_written_variable(const BoundPlan& bound, const void* data, int64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (const Update& update : bound.plan->program().updates) {
    const State& state = bound.binding->state(update.variable);
    const auto other = reinterpret_cast<uintptr_t>(state.data());
    if (begin < other + static_cast<uintptr_t>(state.bytes()) &&
        other < begin + static_cast<uintptr_t>(bytes)) {
      return true;
    }
  }
  return false;
}

}  // namespace

void check_arguments(const Plan& plan, PyObject* const* args, size_t count) {
  const std::vector<int>& inputs = plan.program().inputs;
  if (count != inputs.size()) {
    throw py::type_error(concat("the plan takes ", inputs.size(), " arrays, got ", count));
  }
  for (size_t i = 0; i < count; ++i) {
    if (!py::detail::npy_api::get().PyArray_Check_(args[i])) {
      throw py::type_error(concat("input ", i, " must be an ndarray"));
    }
    const ArrayProxy* array = as_array(args[i]);
    const Dtype dtype = plan.program().values[static_cast<size_t>(inputs[i])].dtype;
    if (!is_ready(array) || dtype_of(array) != dtype) {
      throw py::type_error(concat("input ", i, " must be a C-contiguous, aligned array of ",
                                  dtype_name(dtype), ", got ", dtype_text(array)));
    }
    const std::span<const int64_t> want = plan.shape(inputs[i]);
    const std::span<const Py_ssize_t> got = array_shape(array);
    if (!std::equal(want.begin(), want.end(), got.begin(), got.end())) {
      throw py::value_error(
          concat("input ", i, " must have shape ", shape_text(want), ", got ",
                 shape_text({reinterpret_cast<const int64_t*>(got.data()), got.size()})));
    }
  }
}

py::object run_plan(const BoundPlan& bound, PyObject* const* args, GuardFailure* failure) {
  const Plan& plan = *bound.plan;
  const Program& program = plan.program();
  Pointers inputs(program.inputs.size()), outputs(program.outputs.size());
  py::object copies;  // of inputs that lie in variables
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    const ArrayProxy* array = as_array(args[i]);
    inputs.data()[i] = array->data;
    if (array->base != nullptr && !program.updates.empty() &&
        lies_in_written_variable(bound, array->data, plan.value_bytes(program.inputs[i]))) {
      if (!copies) copies = py::list();
      const auto copy = py::reinterpret_steal<py::object>(
          py::detail::npy_api::get().PyArray_NewCopy_(args[i], 0));
      if (!copy) throw py::error_already_set();
      copies.cast<py::list>().append(copy);
      inputs.data()[i] = as_array(copy.ptr())->data;
    }
  }
  const bool single = program.outputs.size() == 1;
  py::object result;
  if (!single) result = py::tuple(program.outputs.size());
  for (size_t i = 0; i < program.outputs.size(); ++i) {
    const int value = program.outputs[i];
    py::object array =
        new_array(program.values[static_cast<size_t>(value)].dtype, plan.shape(value));
    outputs.data()[i] = as_array(array.ptr())->data;
    if (single) {
      result = std::move(array);
    } else {
      PyTuple_SET_ITEM(result.ptr(), static_cast<Py_ssize_t>(i), array.release().ptr());
    }
  }
  const Plan::Lease lease(plan, *bound.binding);
  if (plan.is_long()) {
    Pinned pinned;
    for (size_t i = 0; i < program.inputs.size(); ++i) pinned.add(args[i]);
    const GilRelease release;
    *failure = plan.run(*lease, inputs.data(), outputs.data());
  } else {
    *failure = plan.run(*lease, inputs.data(), outputs.data());
  }
  return *failure ? py::object() : std::move(result);
}

void set_python_error() {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}

}  // namespace handmill
