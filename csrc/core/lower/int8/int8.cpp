// Products of 8-bit integers.
#include <algorithm>
#include <string_view>
#include <utility>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

// The columns of a panel of packed weights, and of a vector (kernels/int8/panels.h).
struct Int8Widths {
  int64_t vector, panel;
};

Int8Widths int8_widths(Isa isa) {
  switch (isa) {
    case Isa::avx512:
    case Isa::avx512_bf16:
      return {16, 64};
    case Isa::avx2:
      return {8, 16};
    default:
      return {4, 8};
  }
}

// Rows of a block: their bytes stay in L1 and L2 while panels pass.
constexpr int64_t kBlockRows = 48;
// Weights that the blocks of several rows share stay in L2.
constexpr int64_t kBlockWeights = int64_t{1} << 19;
// What a block of a depthwise convolution reads of an image stays in L1.
constexpr int64_t kBlockImage = int64_t{1} << 14;
// Rows of a block of a recurrent layer, for which a panel of R is read once.
constexpr int64_t kRecurrentRows = 16;
// Fewer rows are one block, whose panels threads share: each of them quantizes the rows.
constexpr int64_t kFewRows = 12;
constexpr int64_t kFewRowsBlocks = 16;

Activation int8_activation(std::string_view name) {
  if (name == "relu") return Activation::relu;
  if (name == "relu6") return Activation::relu6;
  require(name.empty(), "int8_product: no activation \"", name, "\"");
  return Activation::none;
}

// The windows of a convolution of lines or images.
Int8Windows windows_of(const NodeView& node) {
  const ValueView x = node.input(0), w = node.input(1), y = node.output(0);
  const int axes = x.rank() - 2;
  require(axes == 1 || axes == 2, "convolutions of bytes: lines or images are needed");
  const std::span<const int64_t> strides = node.ints("strides"), padding = node.ints("padding"),
                                 dilation = node.ints("dilation");
  Int8Windows windows{.H = axes == 2 ? x.dim(1) : 1,
                      .W = x.dim(-2),
                      .C = x.dim(-1),
                      .rows = axes == 2 ? y.dim(1) : 1,
                      .columns = y.dim(-2),
                      .taps = {1, 1},
                      .strides = {1, 1},
                      .dilations = {1, 1},
                      .before = {0, 0}};
  for (int i = 0; i < axes; ++i) {
    const int at = i + 2 - axes;
    const size_t from = static_cast<size_t>(i);
    windows.taps[at] = w.dim(i);
    windows.strides[at] = strides[from];
    windows.dilations[at] = dilation[from];
    windows.before[at] = padding[2 * from];
  }
  return windows;
}

// Whether windows are the places of an image, one by one: rows of a matrix.
bool is_pointwise(const Int8Windows& w) {
  bool found = w.rows == w.H && w.columns == w.W;
  for (int i = 0; i < 2; ++i) {
    found = found && w.taps[i] == 1 && w.strides[i] == 1 && w.before[i] == 0;
  }
  return found;
}

// Operands behind x and w: factors [, zero] [, bias] [, format].
template <class Args>
void read_rest(const NodeView& node, LaunchWriter& writer, Args& args) {
  int next = 2;
  writer.read(&args.factors, node.input(next++));
  if (node.flag("has_zero")) writer.read(&args.zero, node.input(next++));
  if (node.flag("has_bias")) writer.read(&args.bias, node.input(next++));
  if (node.flag("bytes")) writer.read(&args.format, node.input(next++));
  require(next == node.num_inputs(), "int8_product: ", next, " operands were expected");
  args.activation = int8_activation(node.text("activation"));
}

// Operands but the weights, and how blocks are cut; `panels`: of the weights.
void add_operands(const NodeView& node, LaunchWriter& writer, Int8ProductArgs& args,
                  const Ref& packed, int64_t panels) {
  read_rest(node, writer, args);
  if (args.M < kFewRows) {
    args.blocks_m = 1;
    args.blocks_n = std::min(panels, kFewRowsBlocks);
  } else {
    args.blocks_m = 2 * ceil_div(args.M, 2 * kBlockRows);  // even: for two threads
    args.blocks_n = std::clamp<int64_t>(args.K * args.N / kBlockWeights, 1, panels);
  }
  writer.read(&args.x, node.input(0));
  writer.read(&args.packed, packed);
  writer.write(&args.y, node.output(0));
}

void add_int8_product(const NodeView& node, LaunchWriter& writer, Int8ProductArgs& args,
                      const ValueView& w, int64_t row, int64_t col) {
  const Int8Widths widths = int8_widths(writer.isa());
  const int64_t panels = ceil_div(args.N, widths.panel), groups = ceil_div(args.K, 4);
  const Ref packed = writer.workspace(4 * round_up(args.N, widths.vector) * (1 + groups));
  Int8PackArgs pack{
      .w = nullptr, .packed = nullptr, .row = row, .col = col, .K = args.K, .N = args.N};
  writer.read(&pack.w, w);
  writer.write(&pack.packed, packed);
  writer.add<Kernel::int8_pack>(pack, {.blocks = panels, .pack = w.is_stable});

  add_operands(node, writer, args, packed, panels);
  const int64_t rows = ceil_div(args.M, args.blocks_m);
  const double products = static_cast<double>(args.M * args.N) * static_cast<double>(args.K);
  writer.add<Kernel::int8_product>(
      args, {.blocks = args.blocks_m * args.blocks_n,
             .scratch = round_up(4 * rows, 64) + round_up(4 * groups, 64) +
                        8 * groups * (rows + widths.panel) + 64,
             // A sum of four products costs as much as one of one float32 product.
             .flops = products / 2});
}

// The weights are read as they are stored, two in a byte.
void add_int4_product(const NodeView& node, LaunchWriter& writer, Int8ProductArgs& args,
                      const ValueView& w, bool turned) {
  const Int8Widths widths = int8_widths(writer.isa());
  const int64_t panels = ceil_div(args.N, widths.panel), depth = round_up(args.K, 16);
  const Ref packed = writer.workspace(round_up(args.N, widths.vector) * (4 + depth / 2));
  Int4PackArgs pack{.w = nullptr, .packed = nullptr, .K = args.K, .N = args.N, .turned = turned};
  writer.read(&pack.w, w);
  writer.write(&pack.packed, packed);
  writer.add<Kernel::int4_pack>(pack, {.blocks = panels, .pack = w.is_stable});

  add_operands(node, writer, args, packed, panels);
  const int64_t rows = ceil_div(args.M, args.blocks_m);
  const double products = static_cast<double>(args.M * args.N) * static_cast<double>(args.K);
  writer.add<Kernel::int4_product>(args, {.blocks = args.blocks_m * args.blocks_n,
                                          .scratch = round_up(8 * rows, 64) + rows * depth + 64,
                                          // Of eight products, as one of float32.
                                          .flops = products / 4});
}

}  // namespace

// (x, w, factors [, zero] [, bias] [, format];
//  transpose_b, pairs, has_zero, has_bias, bytes, activation) -> y
void lower_int8_product(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), w = node.input(1), y = node.output(0);
  const bool turned = node.flag("transpose_b");
  Int8ProductArgs args{};
  args.N = y.dim(-1);
  args.K = x.dim(-1);
  args.M = y.product(0, y.rank() - 1);
  args.source = node.flag("has_zero") ? Int8Source::kBytes : Int8Source::kFloats;
  const bool pairs = node.flag("pairs");
  const int64_t rows = turned ? args.N : args.K, of_row = turned ? args.K : args.N;
  require(w.rank() == 2 && w.dim(0) == rows && w.dim(1) == (pairs ? (of_row + 1) / 2 : of_row),
          "int8_product: the shapes of the operands do not fit");
  if (y.size() == 0) return;
  if (pairs) return add_int4_product(node, writer, args, w, turned);
  add_int8_product(node, writer, args, w, turned ? 1 : args.N, turned ? args.K : 1);
}

// (x, w, factors, zero [, bias] [, format];
//  strides, padding, dilation, has_zero, has_bias, bytes, activation) -> y, of lines and images
void lower_int8_conv(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), w = node.input(1), y = node.output(0);
  require(w.rank() == x.rank(), "int8_conv: a kernel with as many axes as its images is needed");
  Int8ProductArgs args{};
  args.source = Int8Source::kWindows;
  args.windows = windows_of(node);
  if (is_pointwise(args.windows)) args.source = Int8Source::kBytes;
  args.N = y.dim(-1);
  args.K = w.size() / std::max<int64_t>(args.N, 1);
  args.M = y.size() / std::max<int64_t>(args.N, 1);
  require(node.flag("has_zero"), "int8_conv: bytes have a zero point");
  if (y.size() == 0) return;
  add_int8_product(node, writer, args, w, args.N, 1);
}

// (x, w, factors, zero [, bias] [, format]; as int8_conv) -> y
void lower_int8_depthwise(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), w = node.input(1), y = node.output(0);
  Int8DepthwiseArgs args{};
  Int8Windows& windows = args.windows;
  windows = windows_of(node);
  if (x.rank() == 3) {  // taps of a line lie below each other: four of them are one group
    std::swap(windows.H, windows.W);
    std::swap(windows.rows, windows.columns);
    for (int64_t (*pair)[2] :
         {&windows.taps, &windows.strides, &windows.dilations, &windows.before}) {
      std::swap((*pair)[0], (*pair)[1]);
    }
  }
  args.N = y.dim(-1);
  args.multiplier = args.N / std::max<int64_t>(windows.C, 1);
  require(node.flag("has_zero"), "int8_depthwise: bytes have a zero point");
  require(w.size() == windows.taps[0] * windows.taps[1] * args.N,
          "int8_depthwise: the shapes of the operands do not fit");
  if (y.size() == 0) return;
  const int64_t width = int8_widths(writer.isa()).vector, vectors = ceil_div(args.N, width);
  const int64_t taps = windows.taps[1] * round_up(windows.taps[0], 4);
  const Ref packed = writer.workspace(vectors * width * (4 + taps));
  Int8DepthwisePackArgs pack{
      .w = nullptr, .packed = nullptr, .taps = {windows.taps[0], windows.taps[1]}, .N = args.N};
  writer.read(&pack.w, w);
  writer.write(&pack.packed, packed);
  writer.add<Kernel::int8_depthwise_pack>(pack, {.blocks = vectors, .pack = w.is_stable});
  read_rest(node, writer, args);
  const int64_t columns =
      (windows.columns - 1) * windows.strides[1] + (windows.taps[1] - 1) * windows.dilations[1] + 1;
  const int64_t reach = (windows.taps[0] - 1) * windows.dilations[0];
  const int64_t of_row = std::max<int64_t>(columns * args.N * windows.strides[0], 1);
  args.rows_per_block = std::clamp<int64_t>(kBlockImage / of_row, 1, windows.rows);
  args.row_blocks = ceil_div(windows.rows, args.rows_per_block);
  const int64_t rows = (args.rows_per_block - 1) * windows.strides[0] + reach + 1;
  writer.read(&args.x, x);
  writer.read(&args.packed, packed);
  writer.write(&args.y, y);
  // Whole vectors are read: up to one behind the last byte.
  writer.add<Kernel::int8_depthwise>(
      args, {.blocks = x.dim(0) * args.row_blocks,
             .scratch = rows * columns * args.N + 64,
             .flops = 2.0 * static_cast<double>(y.size()) *
                      static_cast<double>(windows.taps[0] * windows.taps[1])});
}

// (z, r, factors, h0, [c0], [bias], [mask]) -> y, h, [c]
void lower_int8_recurrent(const NodeView& node, LaunchWriter& writer) {
  const std::string_view kind = node.text("kind");
  const bool lstm = kind == "lstm", gru = kind == "gru";
  Int8RecurrentArgs args{};
  args.kind = lstm ? RecurrentKind::lstm : gru ? RecurrentKind::gru : RecurrentKind::simple;
  args.backwards = node.flag("backwards");
  const int64_t G = lstm ? 4 : gru ? 3 : 1;
  const ValueView z = node.input(0), r = node.input(1), y = node.output(0);
  args.B = z.dim(0);
  args.T = z.dim(1);
  args.U = y.dim(2);
  if (args.B == 0 || args.U == 0) return;
  const int64_t width = int8_widths(writer.isa()).vector, vectors = ceil_div(args.U, width);
  const int64_t groups = ceil_div(args.U, 4), units = vectors * width;
  const Ref packed = writer.workspace(4 * units * G * (1 + groups));
  Int8RecurrentPackArgs pack{.r = nullptr, .packed = nullptr, .U = args.U, .G = G};
  writer.read(&pack.r, r);
  writer.write(&pack.packed, packed);
  writer.add<Kernel::int8_recurrent_pack>(pack, {.blocks = vectors, .pack = r.is_stable});
  writer.read(&args.z, z);
  writer.read(&args.packed, packed);
  writer.read(&args.factors, node.input(2));
  writer.read(&args.h0, node.input(3));
  int next = 4;
  if (lstm) writer.read(&args.c0, node.input(next++));
  if (gru) writer.read(&args.bias, node.input(next++));
  if (node.flag("masked")) writer.read(&args.mask, node.input(next++));
  writer.write(&args.y, y);
  writer.write(&args.h, node.output(1));
  if (lstm) writer.write(&args.c, node.output(2));
  args.rows_per_block = args.B >= 2 * kRecurrentRows
                            ? even_part(args.B, kRecurrentRows)
                            : std::clamp<int64_t>(ceil_div(args.B, 2), 1, kRecurrentRows);
  const int64_t rows = args.rows_per_block;
  const int64_t floats = 2 * units * groups * G + 2 * rows * units + 2 * rows * groups + rows;
  const double products = static_cast<double>(z.size()) * static_cast<double>(args.U);
  writer.add<Kernel::int8_recurrent>(args, {.blocks = ceil_div(args.B, rows),
                                            .scratch = 4 * floats + 4 * groups + 64,
                                            .flops = products / 2});
}

// (x, format) -> y
void lower_to_bytes(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  ToBytesArgs args{};
  args.size = x.size();
  args.per_block = kBlockElements;
  writer.read(&args.x, x);
  writer.read(&args.format, node.input(1));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::to_bytes>(args, {.blocks = ceil_div(args.size, args.per_block),
                                      .flops = 4.0 * static_cast<double>(args.size)});
}

// (x; size) -> y
void lower_unpack_int4(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  Int4UnpackArgs args{};
  args.size = node.i64("size");
  args.rows = y.size() / std::max<int64_t>(args.size, 1);
  args.rows_per_block = items_per_block(args.size);
  require(x.size() == args.rows * ((args.size + 1) / 2), "unpack_int4: the sizes do not fit");
  writer.read(&args.x, x);
  writer.write(&args.y, y);
  writer.add<Kernel::int4_unpack>(args, {.blocks = ceil_div(args.rows, args.rows_per_block),
                                         .flops = static_cast<double>(y.size())});
}

}  // namespace handmill
