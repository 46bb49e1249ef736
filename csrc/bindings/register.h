// One register_<topic> for each file of bindings.
#pragma once

#include <pybind11/pybind11.h>

namespace handmill {

void register_ceilings(pybind11::module_& m);
void register_columns(pybind11::module_& m);
void register_feed(pybind11::module_& m);
void register_files(pybind11::module_& m);
void register_function(pybind11::module_& m);
void register_images(pybind11::module_& m);
void register_lane(pybind11::module_& m);
void register_plan(pybind11::module_& m);
void register_program(pybind11::module_& m);
void register_random(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_state(pybind11::module_& m);

}  // namespace handmill
