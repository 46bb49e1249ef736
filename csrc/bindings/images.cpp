// warp_batch: checks buffers, releases the GIL, calls core/image_pool.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "bindings/gil.h"
#include "bindings/pinned.h"
#include "core/check.h"
#include "core/image_pool.h"
#include "core/registry.h"

namespace py = pybind11;

namespace handmill {
namespace {

WarpFill parse_fill(const std::string& mode) {
  if (mode == "nearest") return WarpFill::kNearest;
  if (mode == "constant") return WarpFill::kConstant;
  if (mode == "reflect") return WarpFill::kReflect;
  if (mode == "wrap") return WarpFill::kWrap;
  throw std::invalid_argument(concat("warp_batch: unknown fill_mode '", mode,
                                     "'; known: nearest, constant, reflect, wrap"));
}

// An array as it must be for the kernel: packed, aligned, in native byte order.
template <typename T>
bool is_plain(const py::array& x) {
  constexpr int kFlags = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  return py::isinstance<py::array_t<T>>(x) && (x.flags() & kFlags) == kFlags;
}

bool is_plain_image_type(const py::array& x) { return is_plain<uint8_t>(x) || is_plain<float>(x); }

bool overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const auto first = reinterpret_cast<uintptr_t>(a);
  const auto second = reinterpret_cast<uintptr_t>(b);
  return first < second + static_cast<uintptr_t>(b_bytes) &&
         second < first + static_cast<uintptr_t>(a_bytes);
}

// The images of one call: which of `source` each result comes from.
struct Sources {
  Pinned arrays;
  std::vector<const void*> images;
  bool is_uint8 = false;
};

void require_image(const py::array& x, int first_axis, const py::array& out) {
  require(is_plain_image_type(x),
          "warp_batch: images must be C-contiguous, aligned arrays of uint8 or float32");
  require(x.ndim() == first_axis + 3 && x.shape(first_axis) == out.shape(1) &&
              x.shape(first_axis + 1) == out.shape(2) && x.shape(first_axis + 2) == out.shape(3),
          "warp_batch: an image and the result have different heights, widths or channels");
  require(!overlap(x.data(), x.nbytes(), out.data(), out.nbytes()),
          "warp_batch: an image and the result overlap in memory");
}

Sources sources_from_array(const py::array& x, const py::object& index, const py::array& out) {
  require_image(x, 1, out);
  Sources sources;
  sources.arrays.add(x.ptr());
  sources.is_uint8 = is_plain<uint8_t>(x);
  const int64_t batch = out.shape(0);
  const int64_t N = x.shape(0);
  const int64_t image_bytes = N > 0 ? x.nbytes() / N : 0;
  const auto* bytes = static_cast<const char*>(x.data());
  sources.images.reserve(static_cast<size_t>(batch));
  if (index.is_none()) {
    require(N == batch, "warp_batch: ", N, " images for ", batch, " results");
    for (int64_t b = 0; b < batch; ++b) sources.images.push_back(bytes + b * image_bytes);
    return sources;
  }
  const auto rows = py::cast<py::array>(index);
  require(is_plain<int64_t>(rows) && rows.ndim() == 1 && rows.shape(0) == batch,
          "warp_batch: index must be a contiguous int64 array with one entry per result");
  const auto* at = static_cast<const int64_t*>(rows.data());
  for (int64_t b = 0; b < batch; ++b) {
    require(at[b] >= 0 && at[b] < N, "warp_batch: index ", at[b], " is outside of ", N, " images");
    sources.images.push_back(bytes + at[b] * image_bytes);
  }
  return sources;
}

Sources sources_from_list(const py::sequence& list, const py::array& out) {
  require(static_cast<int64_t>(py::len(list)) == out.shape(0), "warp_batch: ", py::len(list),
          " images for ", out.shape(0), " results");
  Sources sources;
  for (const py::handle& item : list) {
    const auto x = py::cast<py::array>(item);
    require_image(x, 0, out);
    const bool is_uint8 = is_plain<uint8_t>(x);
    require(sources.images.empty() || sources.is_uint8 == is_uint8,
            "warp_batch: the images of one call must have one dtype");
    sources.is_uint8 = is_uint8;
    sources.arrays.add(x.ptr());
    sources.images.push_back(x.data());
  }
  return sources;
}

void warp_batch(const py::object& source, const py::object& index, const py::array& matrices,
                const py::array& flips, const std::string& fill_mode, float cval, int order,
                float scale, float offset, py::array out, int threads) {
  require(is_plain<float>(out) && out.ndim() == 4 && out.writeable(),
          "warp_batch: out must be a writeable, contiguous float32 array of rank 4");
  const int64_t batch = out.shape(0);
  require(is_plain<double>(matrices) && matrices.ndim() == 2 && matrices.shape(0) == batch &&
              matrices.shape(1) == 6,
          "warp_batch: matrices must be a contiguous float64 array of shape (", batch, ", 6)");
  require(is_plain<uint8_t>(flips) && flips.ndim() == 1 && flips.shape(0) == batch,
          "warp_batch: flips must be a contiguous uint8 array of shape (", batch, ",)");
  require(order == 0 || order == 1, "warp_batch: order must be 0 or 1, got ", order);
  require(threads >= 1, "warp_batch: threads must be positive, got ", threads);
  Sources sources = py::isinstance<py::array>(source)
                        ? sources_from_array(py::cast<py::array>(source), index, out)
                        : sources_from_list(py::cast<py::sequence>(source), out);
  WarpArgs args{};
  args.y = static_cast<float*>(out.mutable_data());
  args.source = sources.images.data();
  args.matrix = static_cast<const double*>(matrices.data());
  args.flips = static_cast<const uint8_t*>(flips.data());
  args.B = batch;
  args.H = out.shape(1);
  args.W = out.shape(2);
  args.C = out.shape(3);
  if (out.size() == 0) return;
  require(out.size() / batch < (int64_t{1} << 31),
          "warp_batch: an image has 2^31 elements or more");
  args.scale = scale;
  args.offset = offset;
  args.cval = cval;
  args.fill = parse_fill(fill_mode);
  args.order = order;
  args.is_uint8 = sources.is_uint8;
  const KernelFunction kernel = kernel_function(current_isa(), Kernel::warp);
  sources.arrays.add(out.ptr());
  const GilRelease release;
  warp_images(kernel, args, batch, threads);
}

}  // namespace

void register_images(py::module_& m) {
  m.def("warp_batch", &warp_batch, py::arg("source"), py::arg("index"), py::arg("matrices"),
        py::arg("flips"), py::arg("fill_mode"), py::arg("cval"), py::arg("order"), py::arg("scale"),
        py::arg("offset"), py::arg("out"), py::arg("threads"),
        "Warps a batch of images into out (B, H, W, C) float32. source is an array (N, H, W, C) of "
        "which index (int64, or None for all) picks B images, or a list of B arrays (H, W, C).");
}

}  // namespace handmill
