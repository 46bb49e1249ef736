// interleave, for data frames.

#include "core/columns.h"

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/pinned.h"
#include "bindings/register.h"
#include "core/check.h"

namespace handmill {
namespace {

void interleave_into(const py::list& columns, py::handle y) {
  const py::array rows = ready_array(y, "the rows");
  require(rows.ndim() == 2 && rows.writeable(), "the rows must be a table that can be written");
  require(rows.shape(1) == static_cast<py::ssize_t>(columns.size()), "expected ", rows.shape(1),
          " columns, got ", columns.size());
  Pinned pinned;
  pinned.add(rows.ptr());
  std::vector<Column> found;
  for (py::handle column : columns) {
    const py::array array = ready_array(column, "columns");
    require(array.ndim() == 1 && array.shape(0) == rows.shape(0), "a column must have shape (",
            rows.shape(0), ",)");
    pinned.add(array.ptr());
    found.push_back(
        {static_cast<const std::byte*>(array.data()), *dtype_of(as_array(array.ptr()))});
  }
  const Dtype dtype = *dtype_of(as_array(rows.ptr()));
  auto* const data = reinterpret_cast<std::byte*>(as_array(rows.ptr())->data);
  const GilRelease release;
  interleave(found, rows.shape(0), dtype, data);
}

}  // namespace

void register_columns(py::module_& m) {
  m.def("interleave", &interleave_into, py::arg("columns"), py::arg("y"),
        "Writes columns, converted, as the rows of a table.");
}

}  // namespace handmill
