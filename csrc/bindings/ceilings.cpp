// measure_peak, measure_stream and measure_update, for benchmarks.

#include "core/ceilings.h"

#include <string>

#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"
#include "core/parallel.h"

namespace py = pybind11;

namespace handmill {
namespace {

int threads_of(const py::object& threads) {
  return threads.is_none() ? num_threads() : threads.cast<int>();
}

Isa isa_of(const py::object& isa) {
  return isa.is_none() ? current_isa() : find_isa(isa.cast<std::string>());
}

Stream parse_stream(const std::string& kind) {
  if (kind == "read") return Stream::read;
  if (kind == "copy") return Stream::copy;
  if (kind == "update") return Stream::update;
  throw std::invalid_argument(
      concat("measure_stream: unknown kind '", kind, "'; known: read, copy, update"));
}

}  // namespace

void register_ceilings(py::module_& m) {
  m.def(
      "measure_peak",
      [](const py::object& isa, const py::object& threads, double seconds) {
        const Isa level = isa_of(isa);
        const int count = threads_of(threads);
        const GilRelease release;
        return measure_peak(level, count, seconds);
      },
      py::kw_only(), py::arg("isa") = py::none(), py::arg("threads") = py::none(),
      py::arg("seconds") = 0.1, "FLOP/s of multiply-adds from registers.");
  m.def(
      "measure_stream",
      [](const std::string& kind, int64_t bytes, const py::object& isa, const py::object& threads,
         double seconds) {
        const Stream stream = parse_stream(kind);
        const Isa level = isa_of(isa);
        const int count = threads_of(threads);
        const GilRelease release;
        return measure_stream(stream, bytes, level, count, seconds);
      },
      py::arg("kind"), py::arg("bytes"), py::kw_only(), py::arg("isa") = py::none(),
      py::arg("threads") = py::none(), py::arg("seconds") = 0.1,
      "Bytes read and written a second: 'read', 'copy' (one half of `bytes` to the other) or "
      "'update' (in place).");
  m.def(
      "measure_update",
      [](int arrays, int64_t bytes, const py::object& isa, const py::object& threads,
         double seconds) {
        const Isa level = isa_of(isa);
        const int count = threads_of(threads);
        const GilRelease release;
        return measure_update(arrays, bytes, level, count, seconds);
      },
      py::arg("arrays"), py::arg("bytes"), py::kw_only(), py::arg("isa") = py::none(),
      py::arg("threads") = py::none(), py::arg("seconds") = 0.1,
      "Bytes read and written a second where 1 to 3 arrays are updated in place by another, all "
      "of one size and `bytes` together.");
}

}  // namespace handmill
