// Recurrent layers: R is packed, then each block of rows goes through all steps.
#include <algorithm>
#include <string_view>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "kernels/recurrent/sizes.h"
#include "simd/tile.h"

namespace handmill {
namespace {

// Units whose R, with the gates of an LSTM, fits the second-level cache. Above, a block has more
// rows for each time that R is read.
constexpr int64_t kUnitsInCache = 300;

// Rows of a block, from shapes alone: they decide no bits, since rows know nothing of each other.
int64_t rows_of_block(int64_t B, int64_t U) {
  const int64_t most = U > kUnitsInCache ? kMostRecurrentRows : kMostRecurrentRows / 2;
  if (B >= 2 * most) return even_part(B, most);
  return std::clamp<int64_t>(ceil_div(B, 2), 1, most);
}

int vector_width(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16:
    case Isa::avx512:
      return kFloat32Tiles.avx512.width;
    case Isa::avx2:
      return kFloat32Tiles.avx2.width;
    default:
      return kFloat32Tiles.portable.width;
  }
}

RecurrentKind recurrent_kind(const NodeView& node) {
  const std::string_view kind = node.text("kind");
  if (kind == "lstm") return RecurrentKind::lstm;
  if (kind == "gru_before") return RecurrentKind::gru_before;
  return kind == "gru" ? RecurrentKind::gru : RecurrentKind::simple;
}

// The packed copy of R, and the launch that makes it.
Ref pack_recurrent(const ValueView& r, int64_t B, int64_t U, int64_t G, bool transposed,
                   LaunchWriter& writer) {
  const int64_t width = vector_width(writer.isa()), vectors = ceil_div(U, width);
  const int64_t floats = vectors * width * U * G;
  const Ref packed = writer.workspace(floats * static_cast<int64_t>(sizeof(float)));
  RecurrentPackArgs args{};
  args.U = U;
  args.G = G;
  args.transposed = transposed;
  writer.read(&args.r, r);
  writer.write(&args.packed, packed);
  writer.add<Kernel::recurrent_pack>(args, {.blocks = B == 0 ? 0 : vectors, .pack = r.is_stable});
  return packed;
}

// Floats of scratch for `arrays` arrays (rows, units) and one of (rows, more).
int64_t scratch_floats(Isa isa, int64_t rows, int64_t U, int64_t arrays, int64_t more) {
  const int width = vector_width(isa);
  const int64_t padded = round_up(rows, recurrent_tile_rows(width));
  return padded * (arrays * round_up(U, width) + more);
}

}  // namespace

// (z, r, h0, [c0], [bias], [mask], [drop]) -> y, h, [c], [[gates, cells], before]
void lower_recurrent(const NodeView& node, LaunchWriter& writer) {
  RecurrentArgs args{};
  args.kind = recurrent_kind(node);
  args.backwards = node.flag("backwards");
  const int64_t G = gates_of(args.kind);
  const ValueView z = node.input(0), y = node.output(0);
  args.B = z.dim(0);
  args.T = z.dim(1);
  args.U = y.dim(2);
  args.rows_per_block = rows_of_block(args.B, args.U);
  const bool lstm = args.kind == RecurrentKind::lstm, gru = args.kind == RecurrentKind::gru;
  const bool drops = node.flag("dropout");
  const Ref packed = pack_recurrent(node.input(1), args.B, args.U, G, false, writer);
  writer.read(&args.packed, packed);
  writer.read(&args.z, z);
  writer.read(&args.h0, node.input(2));
  int next = 3;
  if (lstm) writer.read(&args.c0, node.input(next++));
  if (gru) writer.read(&args.bias, node.input(next++));
  if (node.flag("masked")) writer.read(&args.mask, node.input(next++));
  if (drops) writer.read(&args.drop, node.input(next++));
  writer.write(&args.y, y);
  writer.write(&args.h, node.output(1));
  next = 2;
  if (lstm) writer.write(&args.c, node.output(next++));
  if (node.flag("save")) {
    if (args.kind != RecurrentKind::simple) {
      writer.write(&args.gates, node.output(next++));
      writer.write(&args.cells, node.output(next++));
    }
    writer.write(&args.before, node.output(next++));
  }
  const int before = args.kind == RecurrentKind::gru_before ? 1 : 0;
  const int64_t floats = scratch_floats(writer.isa(), args.rows_per_block, args.U,
                                        3 + (drops ? 2 * G : 0) + 2 * before, 0);
  const double products = 2.0 * static_cast<double>(z.size()) * static_cast<double>(args.U);
  writer.add<Kernel::recurrent>(args,
                                {.blocks = args.U == 0 ? 0 : ceil_div(args.B, args.rows_per_block),
                                 .scratch = floats * static_cast<int64_t>(sizeof(float)),
                                 .flops = products});
}

// (r, [gates], [cells], [y], [before], [c0], [dy], [dh], [dc], [mask], [drop])
//   -> dz, dh0, [dc0], [dq]
void lower_recurrent_grad(const NodeView& node, LaunchWriter& writer) {
  RecurrentGradArgs args{};
  args.kind = recurrent_kind(node);
  args.backwards = node.flag("backwards");
  const int64_t G = gates_of(args.kind);
  const ValueView dz = node.output(0), dh0 = node.output(1);
  args.B = dz.dim(0);
  args.T = dz.dim(1);
  args.U = dh0.dim(1);
  args.rows_per_block = rows_of_block(args.B, args.U);
  const bool lstm = args.kind == RecurrentKind::lstm, gru = args.kind == RecurrentKind::gru;
  const Ref packed = pack_recurrent(node.input(0), args.B, args.U, G, true, writer);
  writer.read(&args.packed, packed);
  int next = 1;
  const bool before = args.kind == RecurrentKind::gru_before;
  if (args.kind != RecurrentKind::simple) writer.read(&args.gates, node.input(next++));
  if (lstm || gru) writer.read(&args.cells, node.input(next++));
  if (args.kind == RecurrentKind::simple) writer.read(&args.y, node.input(next++));
  if (gru || before) writer.read(&args.before, node.input(next++));
  if (lstm) writer.read(&args.c0, node.input(next++));
  if (node.flag("has_dy")) writer.read(&args.dy, node.input(next++));
  if (node.flag("has_dh")) writer.read(&args.dh, node.input(next++));
  if (node.flag("has_dc")) writer.read(&args.dc, node.input(next++));
  if (node.flag("masked")) writer.read(&args.mask, node.input(next++));
  if (node.flag("dropout")) writer.read(&args.drop, node.input(next++));
  writer.write(&args.dz, dz);
  writer.write(&args.dh0, dh0);
  if (lstm) writer.write(&args.dc0, node.output(2));
  if (gru) writer.write(&args.dq, node.output(2));
  const int64_t floats = scratch_floats(writer.isa(), args.rows_per_block, args.U, 2, G * args.U);
  const double products = 2.0 * static_cast<double>(dz.size()) * static_cast<double>(args.U);
  writer.add<Kernel::recurrent_grad>(
      args, {.blocks = args.U == 0 ? 0 : ceil_div(args.B, args.rows_per_block),
             .scratch = floats * static_cast<int64_t>(sizeof(float)),
             .flops = products});
}

}  // namespace handmill
