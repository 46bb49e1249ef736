// The extension module handmill._core.

#include <pybind11/pybind11.h>

#include "bindings/register.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Programs, plans, states and kernels of handmill.";
  handmill::register_runtime(m);
  handmill::register_random(m);
  handmill::register_state(m);
  handmill::register_program(m);
  handmill::register_plan(m);
  handmill::register_feed(m);
  handmill::register_function(m);
  handmill::register_images(m);
  handmill::register_ceilings(m);
  handmill::register_checksum(m);
  handmill::register_columns(m);
}
