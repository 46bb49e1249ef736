// crc32, for the members of files.

#include "core/checksum.h"

#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"

namespace py = pybind11;

namespace handmill {
namespace {

uint32_t crc32_of(const py::buffer& data, uint32_t value) {
  const py::buffer_info info = data.request();
  require(PyBuffer_IsContiguous(info.view(), 'C') != 0, "crc32: the bytes must lie in one piece");
  const std::span bytes{static_cast<const std::byte*>(info.ptr),
                        static_cast<size_t>(info.view()->len)};
  const GilRelease release;
  return crc32(value, bytes);
}

}  // namespace

void register_checksum(py::module_& m) {
  m.def("crc32", &crc32_of, py::arg("data"), py::arg("value") = 0,
        "The CRC-32 of bytes, as zlib.crc32 has it; `value` is that of what came before.");
}

}  // namespace handmill
