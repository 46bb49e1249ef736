#include "core/columns.h"

#include <algorithm>

#include "core/buffer.h"
#include "core/parallel.h"
#include "core/registry.h"

namespace handmill {
namespace {

// Some rows of all columns at a time: a piece of each column, converted, one after the other in
// memory that stays in the cache, then turned. Long enough for the prefetcher to follow a column.
constexpr int64_t kPieceBytes = int64_t{256} << 10;
constexpr int64_t kMostRows = 2048;
constexpr int64_t kGap = 16;  // elements between pieces, which would meet in the same sets of L1
constexpr int64_t kBytesPerThread = int64_t{256} << 10;

struct Turned {
  std::span<const Column> columns;
  int64_t rows, rows_per_block;
  Dtype dtype;
  std::byte *y, *scratch;
  int64_t scratch_bytes;  // of one thread
  KernelFunction cast, copy;

  int64_t blocks() const { return (rows + rows_per_block - 1) / rows_per_block; }

  void block(int64_t number, std::byte* pieces) const noexcept {
    const int64_t begin = number * rows_per_block;
    const int64_t count = std::min(rows_per_block, rows - begin);
    const auto width = static_cast<int64_t>(columns.size());
    const int64_t bytes = dtype_bytes(dtype), stride = rows_per_block + kGap;
    for (int64_t c = 0; c < width; ++c) {
      const Column& column = columns[static_cast<size_t>(c)];
      const CastArgs args{column.data + begin * dtype_bytes(column.dtype),
                          pieces + c * stride * bytes,
                          count,
                          count,
                          column.dtype,
                          dtype};
      cast(&args, {0, 1}, nullptr);
    }
    StridedCopyArgs args{};
    args.x = pieces;
    args.y = y + begin * width * bytes;
    args.rank = 2;
    args.shape[0] = count;
    args.shape[1] = width;
    args.x_stride[0] = 1;
    args.x_stride[1] = stride;
    args.y_stride[0] = width;
    args.y_stride[1] = 1;
    args.per_block = count * width;  // more than there are tiles
    args.item_bytes = static_cast<int32_t>(bytes);
    copy(&args, {0, 1}, nullptr);
  }

  void run(const Worker& worker) const noexcept {
    const int64_t begin = blocks() * worker.index() / worker.count();
    const int64_t end = blocks() * (worker.index() + 1) / worker.count();
    for (int64_t b = begin; b < end; ++b) block(b, scratch + worker.index() * scratch_bytes);
  }
};

}  // namespace

void interleave(std::span<const Column> columns, int64_t rows, Dtype dtype, std::byte* y) {
  const auto width = static_cast<int64_t>(columns.size());
  if (width == 0 || rows == 0) return;
  const int64_t bytes = dtype_bytes(dtype);
  const int64_t fitting = kPieceBytes / (width * bytes) / kTransposeTile * kTransposeTile;
  const int64_t per_block = std::clamp<int64_t>(fitting, kTransposeTile, kMostRows);
  const Isa isa = current_isa();
  Turned turned{columns,
                rows,
                per_block,
                dtype,
                y,
                nullptr,
                align_up(width * (per_block + kGap) * bytes),
                kernel_function(isa, Kernel::cast),
                kernel_function(isa, Kernel::strided_copy)};
  const int64_t useful = std::clamp<int64_t>(rows * width * bytes / kBytesPerThread, 1,
                                             std::min<int64_t>(num_threads(), turned.blocks()));
  const Buffer scratch(useful * turned.scratch_bytes);
  turned.scratch = scratch.data();
  run_region(
      static_cast<int>(useful),
      [](void* erased, const Worker& worker) { static_cast<const Turned*>(erased)->run(worker); },
      &turned);
}

}  // namespace handmill
