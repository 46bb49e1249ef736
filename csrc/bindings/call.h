// Calling plans with ndarrays.
#pragma once

#include "bindings/arrays.h"
#include "core/plan.h"

namespace handmill {

/// Throws py::type_error or py::value_error unless the arguments are what the plan takes.
void check_arguments(const Plan& plan, PyObject* const* args, size_t count);

/// Runs the plan on arguments that were checked. Returns its output, or a tuple if there is not
/// exactly one. Returns nothing if a guard refused them, which *failure then describes.
py::object run_plan(const Plan& plan, PyObject* const* args, GuardFailure* failure);

/// Sets the Python error GuardFailed: (node, index, value).
void set_guard_failed(const GuardFailure& failure);

/// Turns the exception in flight into a Python error. To be called in a catch block.
void set_python_error();

/// The plan of a Python object, null if it is none.
const Plan* plan_of(PyObject* object);

}  // namespace handmill
