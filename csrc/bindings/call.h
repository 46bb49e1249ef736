// Calling plans with ndarrays.
#pragma once

#include "bindings/arrays.h"
#include "core/plan.h"

namespace handmill {

/// Throws py::type_error or py::value_error unless the arguments are what the plan takes.
void check_arguments(const Plan& plan, PyObject* const* args, size_t count);

/// A plan, and the states that it reads and writes; checked against each other.
struct BoundPlan {
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<const Binding> binding;
};

/// Runs the plan on arguments that were checked. Returns its output, or a tuple if there is not
/// exactly one. Returns nothing if a guard refused them, which *failure then describes.
py::object run_plan(const BoundPlan& bound, PyObject* const* args, GuardFailure* failure);

/// Sets the Python error GuardFailed: (node, index, value).
void set_guard_failed(const GuardFailure& failure);

/// Turns the exception in flight into a Python error. To be called in a catch block.
void set_python_error();

/// The bound plan of a Python object, null if it is none.
const BoundPlan* bound_plan_of(PyObject* object);

}  // namespace handmill
