// Random words and permutations.

#include "core/random.h"

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"

namespace handmill {
namespace {

py::array_t<uint32_t> words(uint64_t seed, uint64_t counter, int64_t n) {
  require(n >= 0, "the number of words must not be negative");
  py::array_t<uint32_t> array(n);
  philox_words(seed, counter, n, array.mutable_data());
  return array;
}

py::array_t<int64_t> permuted(uint64_t seed, uint64_t counter, int64_t n) {
  require(n >= 0, "the number of rows must not be negative");
  py::array_t<int64_t> array(n);
  int64_t* data = array.mutable_data();
  const GilRelease release;
  permutation(seed, counter, n, data);
  return array;
}

}  // namespace

void register_random(py::module_& m) {
  m.def("philox", &words, py::arg("seed"), py::arg("counter"), py::arg("n"),
        "The first n words (uint32) of Philox4x32-10.");
  m.def("permutation", &permuted, py::arg("seed"), py::arg("counter"), py::arg("n"),
        "The positions 0 to n - 1 (int64) in the order of their words.");
}

}  // namespace handmill
