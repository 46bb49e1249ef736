// Checksums of files, and reading and writing them.

#include <cerrno>
#include <vector>

#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"
#include "core/checksum.h"
#include "core/file_io.h"
#include "core/state.h"

namespace py = pybind11;

namespace handmill {
namespace {

uint32_t crc32_of(const py::buffer& data, uint32_t value) {
  const py::buffer_info info = data.request();
  require(PyBuffer_IsContiguous(info.view(), 'C') != 0, "crc32: the bytes must lie in one piece");
  const std::span bytes{static_cast<const std::byte*>(info.ptr),
                        static_cast<size_t>(info.view()->len)};
  const GilRelease release;
  return crc32_by_threads(value, bytes);
}

uint32_t read_parts_into(int descriptor, const py::list& parts, bool checked) {
  std::vector<FilePart> found;
  std::vector<py::buffer_info> buffers;
  std::vector<State*> states;
  for (py::handle part : parts) {
    const auto [at, bytes, target] = part.cast<std::tuple<int64_t, int64_t, py::object>>();
    require(at >= 0 && bytes >= 0, "read_parts: a part lies at ", at, " and has ", bytes, " bytes");
    std::byte* to = nullptr;
    int64_t room = bytes;
    if (py::isinstance<State>(target)) {
      states.push_back(target.cast<State*>());
      to = states.back()->data();
      room = states.back()->bytes();
    } else if (!target.is_none()) {
      buffers.push_back(target.cast<py::buffer>().request(/*writable=*/true));
      const py::buffer_info& buffer = buffers.back();
      require(PyBuffer_IsContiguous(buffer.view(), 'C') != 0,
              "read_parts: targets must be C order");
      to = static_cast<std::byte*>(buffer.ptr);
      room = buffer.view()->len;
    }
    require(room == bytes, "read_parts: a target has room for ", room, " of ", bytes, " bytes");
    found.push_back({to, at, bytes});
  }
  FileRead result;
  {
    const GilRelease release;
    result = read_parts(descriptor, found, checked);
  }
  for (State* state : states) state->bump();
  if (result.error != 0) {
    errno = result.error;
    PyErr_SetFromErrno(PyExc_OSError);
    throw py::error_already_set();
  }
  if (!result.is_whole) {
    PyErr_SetString(PyExc_EOFError, "the file ends before its content");
    throw py::error_already_set();
  }
  return result.crc;
}

}  // namespace

void register_files(py::module_& m) {
  m.def("crc32", &crc32_of, py::arg("data"), py::arg("value") = 0,
        "The CRC-32 of bytes, as zlib.crc32 has it; `value` is that of what came before.");
  m.def("read_parts", &read_parts_into, py::arg("descriptor"), py::arg("parts"),
        py::arg("checked") = false,
        "Reads parts (place, bytes, target) of an open file into States or buffers, or nowhere for "
        "None, and returns the CRC-32 of all of them if it is wanted.");
  m.def(
      "begin_writeback",
      [](int descriptor, int64_t at, int64_t bytes) {
        const GilRelease release;
        begin_writeback(descriptor, at, bytes);
      },
      py::arg("descriptor"), py::arg("at"), py::arg("bytes"),
      "Lets the system begin to bring bytes of an open file to the disk.");
}

}  // namespace handmill
