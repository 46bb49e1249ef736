// The extension module handmill._core.

#include <pybind11/pybind11.h>

#include "bindings/register.h"

PYBIND11_MODULE(main_core, m) {
  m.doc() = "Programs, plans, states and kernels of handmill.";
  handmill::register_runtime(m);
  handmill::register_random(m);
  handmill::register_state(m);
  handmill::register_program(m);
  handmill::register_plan(m);
  handmill::register_feed(m);
  handmill::register_files(m);
  handmill::register_function(m);
  handmill::register_images(m);
  handmill::register_lane(m);
  handmill::register_ceilings(m);
  handmill::register_columns(m);
}

// What Python calls. A process has one team of threads and one memory of plans, and pybind11 waits
// for ever for a lock that this thread holds, where a Python before 3.12 imports it into another
// interpreter.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0) return PyInit_main_core();
  PyErr_SetString(
      PyExc_ImportError,
      "handmill cannot be used in a subinterpreter, only in the main interpreter of a process\n"
      "  hint: start another process or thread instead; under mod_wsgi, set "
      "`WSGIApplicationGroup %{GLOBAL}`");
  return nullptr;
}
