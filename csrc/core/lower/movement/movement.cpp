// Movement of items: transpose, broadcast, concatenate, slice, pad. Each is one strided copy or a
// few that write disjoint parts of the output.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "core/lower/blocks.h"
#include "core/lower/strided.h"

namespace handmill {
namespace {

using Strides = std::array<int64_t, Strided::kMaxRank>;

Strides contiguous_strides(std::span<const int64_t> shape) {
  require(shape.size() <= Strided::kMaxRank, "at most ", Strided::kMaxRank, " axes, got ",
          shape.size());
  Strides strides{};
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

// Drops axes of one item and merges neighbours that are one axis on both sides.
Strided merged(const Strided& axes) {
  Strided out;
  out.x_start = axes.x_start;
  for (int axis = 0; axis < axes.rank; ++axis) {
    const int64_t dim = axes.shape[axis], x = axes.x_stride[axis], y = axes.y_stride[axis];
    if (dim == 1) continue;
    const int last = out.rank - 1;
    if (last >= 0 && out.x_stride[last] == dim * x && out.y_stride[last] == dim * y) {
      out.shape[last] *= dim;
      out.x_stride[last] = x;
      out.y_stride[last] = y;
    } else {
      out.push(dim, x, y);
    }
  }
  if (out.rank == 0) out.push(1, 1, 1);
  return out;
}

// The axis along which x is contiguous, if tiles pay: the last axis is contiguous in y alone.
int find_tile_axis(const Strided& axes) {
  constexpr int64_t kWorthwhile = 4;
  const int last = axes.rank - 1;
  if (axes.y_stride[last] != 1 || axes.x_stride[last] == 1 || axes.shape[last] < kWorthwhile) {
    return -1;
  }
  for (int axis = 0; axis < last; ++axis) {
    if (axes.x_stride[axis] == 1 && axes.shape[axis] >= kWorthwhile) return axis;
  }
  return -1;
}

uint64_t bits_of(double value, Dtype dtype) {
  uint64_t bits = 0;
  switch (dtype) {
    case Dtype::float32:
      return std::bit_cast<uint32_t>(static_cast<float>(value));
    case Dtype::float64:
      return std::bit_cast<uint64_t>(value);
    case Dtype::bfloat16: {
      const uint32_t wide = std::bit_cast<uint32_t>(static_cast<float>(value));
      return value == value ? (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16 : 0x7fc0u;
    }
    case Dtype::bool_:
      return value != 0;
    default: {
      const int64_t integer = static_cast<int64_t>(value);
      std::memcpy(&bits, &integer, sizeof bits);  // little endian: the low bytes are the item
      return bits;
    }
  }
}

void add_constant(LaunchWriter& writer, const ValueView& y, double value) {
  Strided axes;
  axes.push(y.size(), 0, 1);
  copy_strided(writer, y, nullptr, axes, dtype_bytes(y.dtype), bits_of(value, y.dtype));
}

}  // namespace

void Strided::push(int64_t dim, int64_t x, int64_t y) {
  require(rank < kMaxRank, "at most ", kMaxRank, " axes");
  shape[rank] = dim;
  x_stride[rank] = x;
  y_stride[rank] = y;
  ++rank;
}

void copy_strided(LaunchWriter& writer, const Ref& y, const Ref* x, Strided axes,
                  int64_t item_bytes, uint64_t value) {
  int64_t size = 1;
  for (int axis = 0; axis < axes.rank; ++axis) size *= axes.shape[axis];
  if (size == 0) return;
  if (x == nullptr) std::fill_n(axes.x_stride, axes.rank, 0);
  axes = merged(axes);
  require(axes.rank <= kMaxCopyRank, "at most ", kMaxCopyRank, " axes that cannot be merged, got ",
          axes.rank);
  StridedCopyArgs args{};
  args.rank = axes.rank;
  args.x_start = axes.x_start;
  args.item_bytes = static_cast<int32_t>(item_bytes);
  std::copy_n(axes.shape, axes.rank, args.shape);
  std::copy_n(axes.x_stride, axes.rank, args.x_stride);
  std::copy_n(axes.y_stride, axes.rank, args.y_stride);
  args.tile_axis = find_tile_axis(axes);
  int64_t units = size;
  args.per_block = 2 * kBlockElements;
  if (args.tile_axis >= 0) {
    units = 1;
    for (int axis = 0; axis < axes.rank; ++axis) {
      const bool tiled = axis == args.tile_axis || axis == axes.rank - 1;
      units *= tiled ? ceil_div(axes.shape[axis], kTransposeTile) : axes.shape[axis];
    }
    args.per_block = items_per_block(ceil_div(size, units), 2 * kBlockElements);
  }
  if (x != nullptr) {
    writer.read(&args.x, *x);
  } else {
    writer.table(reinterpret_cast<const uint64_t**>(&args.x), std::span(&value, 1));
  }
  int64_t y_last = 0;  // the exact extent: parts of one output are then known to be disjoint
  for (int axis = 0; axis < axes.rank; ++axis) {
    y_last += (axes.shape[axis] - 1) * axes.y_stride[axis];
  }
  Ref target = y;
  target.length = (y_last + 1) * item_bytes;
  writer.write(&args.y, target);
  int64_t items_read = x == nullptr ? 0 : 1;  // an axis along which x repeats reads it once
  for (int axis = 0; axis < axes.rank; ++axis) {
    if (axes.x_stride[axis] != 0) items_read *= axes.shape[axis];
  }
  writer.add<Kernel::strided_copy>(args,
                                   {.blocks = ceil_div(units, args.per_block),
                                    .bytes_read = static_cast<double>(items_read * item_bytes),
                                    .bytes_written = static_cast<double>(size * item_bytes)});
}

void broadcast_into(LaunchWriter& writer, const Ref& y, std::span<const int64_t> y_shape,
                    const Ref& x, std::span<const int64_t> x_shape, int64_t item_bytes) {
  const Strides x_strides = contiguous_strides(x_shape), y_strides = contiguous_strides(y_shape);
  const size_t added = y_shape.size() - x_shape.size();
  Strided axes;
  for (size_t axis = 0; axis < y_shape.size(); ++axis) {
    const bool repeats = axis < added || x_shape[axis - added] != y_shape[axis];
    axes.push(y_shape[axis], repeats ? 0 : x_strides[axis - added], y_strides[axis]);
  }
  copy_strided(writer, y, &x, axes, item_bytes);
}

void transpose_into(LaunchWriter& writer, const Ref& y, const Ref& x,
                    std::span<const int64_t> x_shape, std::span<const int64_t> perm,
                    int64_t item_bytes) {
  const Strides x_strides = contiguous_strides(x_shape);
  Strided axes;
  for (int64_t source : perm) {
    const size_t axis = static_cast<size_t>(source);
    axes.push(x_shape[axis], x_strides[axis], 0);
  }
  const Strides y_strides = contiguous_strides({axes.shape, static_cast<size_t>(axes.rank)});
  std::copy_n(y_strides.begin(), axes.rank, axes.y_stride);
  copy_strided(writer, y, &x, axes, item_bytes);
}

// (x; perm) -> y
void lower_transpose(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  transpose_into(writer, node.output(0), x, x.shape, node.ints("perm"), dtype_bytes(x.dtype));
}

// x -> y, of the output's shape
void lower_broadcast(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  broadcast_into(writer, y, y.shape, x, x.shape, dtype_bytes(x.dtype));
}

// (x_0, x_1, ...; axis) -> y
void lower_concatenate(const NodeView& node, LaunchWriter& writer) {
  const ValueView y = node.output(0);
  const int axis = static_cast<int>(node.i64("axis"));
  const int64_t item_bytes = dtype_bytes(y.dtype);
  const int64_t outer = y.product(0, axis), inner = y.product(axis + 1, y.rank());
  const int64_t y_row = y.dim(axis) * inner;
  int64_t offset = 0;
  for (int i = 0; i < node.num_inputs(); ++i) {
    const ValueView x = node.input(i);
    const int64_t x_row = x.dim(axis) * inner;
    Strided axes;
    axes.push(outer, x_row, y_row);
    axes.push(x_row, 1, 1);
    const Ref source = x;
    copy_strided(writer, Ref(y).at(offset * item_bytes), &source, axes, item_bytes);
    offset += x_row;
  }
}

// (x; start, stop, step) -> y = x[start:stop:step]; a part of x in one piece is not copied.
void lower_slice(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  const std::span<const int64_t> start = node.ints("start"), step = node.ints("step");
  const int64_t item_bytes = dtype_bytes(x.dtype);
  if (y.size() == 0) return;
  const Strides x_strides = contiguous_strides(x.shape), y_strides = contiguous_strides(y.shape);
  Strided axes;
  for (size_t axis = 0; axis < x.shape.size(); ++axis) {
    axes.x_start += start[axis] * x_strides[axis];
    axes.push(y.shape[axis], step[axis] * x_strides[axis], y_strides[axis]);
  }
  const Strided pieces = merged(axes);
  if (pieces.rank == 1 && (pieces.x_stride[0] == 1 || pieces.shape[0] == 1)) {
    writer.view(y, x, axes.x_start * item_bytes);
    return;
  }
  const Ref source = x;
  copy_strided(writer, y, &source, axes, item_bytes);
}

// (x; paddings (before, after, before, after, ...), value) -> y. The border is written as two slabs
// an axis, which cover the corners only once.
void lower_pad(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  const std::span<const int64_t> paddings = node.ints("paddings");
  const int64_t item_bytes = dtype_bytes(x.dtype);
  const uint64_t value = bits_of(node.f64("value", 0.0), y.dtype);
  const size_t rank = x.shape.size();
  require(paddings.size() == 2 * rank, "pad: paddings need ", 2 * rank, " numbers, got ",
          paddings.size());
  const Strides x_strides = contiguous_strides(x.shape), y_strides = contiguous_strides(y.shape);
  int64_t inside = 0;  // where x starts in the axes seen so far
  for (size_t axis = 0; axis < rank; ++axis) {
    const int64_t before = paddings[2 * axis], after = paddings[2 * axis + 1];
    const int64_t starts[2] = {0, before + x.shape[axis]}, widths[2] = {before, after};
    for (int side = 0; side < 2; ++side) {
      Strided slab;
      for (size_t other = 0; other < rank; ++other) {
        const int64_t dim = other < axis    ? x.shape[other]
                            : other == axis ? widths[side]
                                            : y.shape[other];
        slab.push(dim, 0, y_strides[other]);
      }
      copy_strided(writer, Ref(y).at((inside + starts[side] * y_strides[axis]) * item_bytes),
                   nullptr, slab, item_bytes, value);
    }
    inside += before * y_strides[axis];
  }
  Strided middle;
  for (size_t axis = 0; axis < rank; ++axis) {
    middle.push(x.shape[axis], x_strides[axis], y_strides[axis]);
  }
  const Ref source = x;
  copy_strided(writer, Ref(y).at(inside * item_bytes), &source, middle, item_bytes);
}

// (; dim) -> the number
void lower_dim_value(const NodeView& node, LaunchWriter& writer) {
  add_constant(writer, node.output(0), static_cast<double>(node.i64("dim")));
}

// (; start, step) -> start, start + step, ...: a copy of a table.
void lower_arange(const NodeView& node, LaunchWriter& writer) {
  const ValueView y = node.output(0);
  const int64_t start = node.i64("start"), step = node.i64("step"), bytes = dtype_bytes(y.dtype);
  const bool is_float = y.dtype == Dtype::float32 || y.dtype == Dtype::float64;
  if (y.size() == 0) return;
  std::vector<std::byte> items(static_cast<size_t>(y.bytes()));
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t item = start + step * i;
    const uint64_t bits =
        is_float ? bits_of(static_cast<double>(item), y.dtype) : static_cast<uint64_t>(item);
    std::memcpy(items.data() + i * bytes, &bits, static_cast<size_t>(bytes));  // little endian
  }
  StridedCopyArgs args{};
  args.rank = 1;
  args.item_bytes = static_cast<int32_t>(bytes);
  args.shape[0] = y.size();
  args.x_stride[0] = args.y_stride[0] = 1;
  args.tile_axis = -1;
  args.per_block = 2 * kBlockElements;
  writer.table(reinterpret_cast<const std::byte**>(&args.x), std::span<const std::byte>(items));
  writer.write(&args.y, y);
  writer.add<Kernel::strided_copy>(args, {.blocks = ceil_div(y.size(), args.per_block)});
}

// (x; axis) -> the number of elements along the axes
void lower_size_along(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  int64_t size = 1;
  for (int64_t axis : node.ints("axis")) size *= x.dim(static_cast<int>(axis));
  add_constant(writer, node.output(0), static_cast<double>(size));
}

}  // namespace handmill
