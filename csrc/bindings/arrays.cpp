#include "bindings/arrays.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/check.h"
#include "core/copying.h"

namespace handmill {
namespace {

using Api = py::detail::npy_api;

constexpr int kBuiltinTypes = 24;

// By NumPy's type number: several integer types may have the same size.
std::array<int, kBuiltinTypes> make_codes() {
  std::array<int, kBuiltinTypes> codes;
  codes.fill(-1);
  const auto set = [&](int number, size_t bytes, Dtype small, Dtype large) {
    if (bytes == static_cast<size_t>(dtype_bytes(small)))
      codes[static_cast<size_t>(number)] = static_cast<int>(small);
    if (bytes == static_cast<size_t>(dtype_bytes(large)))
      codes[static_cast<size_t>(number)] = static_cast<int>(large);
  };
  set(Api::NPY_BOOL_, 1, Dtype::bool_, Dtype::bool_);
  set(Api::NPY_BYTE_, 1, Dtype::int8, Dtype::int8);
  set(Api::NPY_UBYTE_, 1, Dtype::uint8, Dtype::uint8);
  set(Api::NPY_INT_, sizeof(int), Dtype::int32, Dtype::int64);
  set(Api::NPY_LONG_, sizeof(long), Dtype::int32, Dtype::int64);
  set(Api::NPY_LONGLONG_, sizeof(long long), Dtype::int32, Dtype::int64);
  set(Api::NPY_FLOAT_, sizeof(float), Dtype::float32, Dtype::float64);
  set(Api::NPY_DOUBLE_, sizeof(double), Dtype::float32, Dtype::float64);
  return codes;
}

const std::array<int, kBuiltinTypes> dtype_codes = make_codes();

// ml_dtypes registers bfloat16 when it is imported; its number is not known before.
bool is_bfloat16(const py::detail::PyArrayDescr_Proxy* descr) {
  const auto* type = reinterpret_cast<const PyTypeObject*>(descr->typeobj);
  const char* dot = std::strrchr(type->tp_name, '.');
  return std::strcmp(dot == nullptr ? type->tp_name : dot + 1, "bfloat16") == 0;
}

// Never freed: interpreters end before libraries are unloaded.
PyObject* make_descriptor(Dtype dtype) {
  if (dtype == Dtype::bfloat16) {
    const py::object type = py::module_::import("ml_dtypes").attr("bfloat16");
    return py::dtype::from_args(type).release().ptr();
  }
  constexpr int kNumbers[kDtypeCount] = {Api::NPY_FLOAT_, Api::NPY_DOUBLE_, -1,
                                         Api::NPY_INT8_,  Api::NPY_UINT8_,  Api::NPY_INT32_,
                                         Api::NPY_INT64_, Api::NPY_BOOL_};
  return Api::get().PyArray_DescrFromType_(kNumbers[static_cast<int>(dtype)]);
}

}  // namespace

std::optional<Dtype> dtype_of(const ArrayProxy* array) {
  const auto* descr = py::detail::array_descriptor_proxy(array->descr);
  const int number = descr->type_num;
  if (number >= 0 && number < kBuiltinTypes) {
    const int code = dtype_codes[static_cast<size_t>(number)];
    return code < 0 ? std::nullopt : std::optional(static_cast<Dtype>(code));
  }
  return is_bfloat16(descr) ? std::optional(Dtype::bfloat16) : std::nullopt;
}

std::string dtype_text(const ArrayProxy* array) { return py::str(py::handle(array->descr)); }

PyObject* descriptor_of(Dtype dtype) {
  static PyObject* descriptors[kDtypeCount] = {};
  PyObject*& known = descriptors[static_cast<int>(dtype)];
  if (known == nullptr) known = make_descriptor(dtype);
  return known;
}

py::object array_over(void* data, Dtype dtype, std::span<const int64_t> shape, py::handle owner,
                      bool writable) {
  static_assert(sizeof(Py_intptr_t) == sizeof(int64_t));
  const Api& api = Api::get();
  PyObject* descriptor = descriptor_of(dtype);
  // Without data NumPy allocates, and takes any flag for a request of Fortran order.
  const int flags = writable && data != nullptr ? Api::NPY_ARRAY_WRITEABLE_ : 0;
  Py_INCREF(descriptor);  // PyArray_NewFromDescr takes it
  auto array = py::reinterpret_steal<py::object>(api.PyArray_NewFromDescr_(
      api.PyArray_Type_, descriptor, static_cast<int>(shape.size()),
      reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, data, flags, nullptr));
  if (!array) throw py::error_already_set();
  if (owner && api.PyArray_SetBaseObject_(array.ptr(), owner.inc_ref().ptr()) != 0) {
    throw py::error_already_set();
  }
  return array;
}

py::object new_array(Dtype dtype, std::span<const int64_t> shape) {
  return array_over(nullptr, dtype, shape, py::handle(), true);
}

py::object owner_of(std::shared_ptr<Buffer> buffer) {
  return py::capsule(new std::shared_ptr<Buffer>(std::move(buffer)),
                     [](void* owned) { delete static_cast<std::shared_ptr<Buffer>*>(owned); });
}

void copy_into(void* data, Dtype dtype, std::span<const int64_t> shape, py::handle source) {
  const auto array = py::reinterpret_steal<py::object>(
      Api::get().PyArray_FromAny_(source.ptr(), nullptr, 0, 0, 0, nullptr));
  if (!array) throw py::error_already_set();
  const ArrayProxy* from = as_array(array.ptr());
  const std::span<const Py_ssize_t> got = array_shape(from);
  require(std::equal(got.begin(), got.end(), shape.begin(), shape.end()),
          "expected an array of shape ", shape_text(shape), ", got shape ",
          shape_text({reinterpret_cast<const int64_t*>(got.data()), got.size()}));
  if (is_ready(from) && dtype_of(from) == dtype) {
    copy_bytes(static_cast<std::byte*>(data), reinterpret_cast<const std::byte*>(from->data),
               array_bytes(shape, dtype));
    return;
  }
  const py::object to = array_over(data, dtype, shape, py::none(), true);
  if (Api::get().PyArray_CopyInto_(to.ptr(), array.ptr()) != 0) throw py::error_already_set();
}

py::array ready_array(py::handle object, const char* what) {
  if (!Api::get().PyArray_Check_(object.ptr()) || !is_ready(as_array(object.ptr())) ||
      !dtype_of(as_array(object.ptr()))) {
    throw py::type_error(concat(what,
                                " must be C-contiguous, aligned ndarrays of one of handmill's "
                                "dtypes, got ",
                                py::repr(py::type::of(object)).cast<std::string>()));
  }
  return py::reinterpret_borrow<py::array>(object);
}

}  // namespace handmill
