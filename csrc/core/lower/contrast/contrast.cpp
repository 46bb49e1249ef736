// Softmax over the products of all rows of two matrices.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/matmul/numbers.h"
#include "kernels/contrast/width.h"

namespace handmill {
namespace {

constexpr int64_t kProductBytes = sizeof(float);

struct CutProducts {
  RowProducts products{};
  LaunchInfo info;
};

// Turns y into panels, and cuts the rows of x into blocks.
CutProducts cut_products(const NodeView& node, LaunchWriter& writer, Ref& panels, int64_t flops) {
  const ValueView x = node.input(0), y = node.input(1);
  const MatmulTile& tile = kFloat32Numbers.tile(writer.isa());
  CutProducts cut;
  RowProducts& p = cut.products;
  p.N = x.dim(0);
  p.M = y.dim(0);
  p.D = x.dim(1);
  p.panel_vectors = tile.vectors;
  p.skips_diagonal = node.flag("skip_diagonal");
  p.rows_per_block = even_part(p.N, kMostContrastRows);

  const int64_t vectors = ceil_div(p.M, tile.width);
  const int64_t words = p.D * vectors * tile.width;
  panels = writer.workspace(round_up(words * kProductBytes, 64));
  if (words > 0 && p.N > 0) {
    MatmulPackArgs pack{};
    pack.b.row = 1;
    pack.b.col = p.D;
    pack.K = p.D;
    pack.N = p.M;
    pack.panel_vectors = tile.vectors;
    pack.batch[0] = pack.batch[1] = 1;
    pack.blocks_n = ceil_div(vectors, tile.vectors);
    pack.blocks_k = 1;
    writer.read(&pack.b.data, y);
    writer.write(&pack.packed, panels);
    writer.add<Kernel::pack_b>(pack, {.blocks = pack.blocks_n});
  }
  const int64_t columns = contrast_panels(tile) * tile.vectors * tile.width;
  cut.info = {
      .blocks = p.N == 0 ? 0 : ceil_div(p.N, p.rows_per_block),
      .scratch = p.rows_per_block * columns * kProductBytes,
      .flops = static_cast<double>(p.N) * static_cast<double>(p.M) * static_cast<double>(flops)};
  return cut;
}

}  // namespace

// (a, b; skip_diagonal) -> sums
void lower_product_logsumexp(const NodeView& node, LaunchWriter& writer) {
  Ref panels(Ref::Kind::workspace, -1);
  CutProducts cut = cut_products(node, writer, panels, 2 * node.input(0).dim(1) + 20);
  ProductLogSumExpArgs args{};
  args.products = cut.products;
  writer.read(&args.products.x, node.input(0));
  writer.read(&args.products.y_panels, panels);
  writer.write(&args.sums, node.output(0));
  writer.add<Kernel::product_logsumexp>(args, cut.info);
}

// (x, y, factor and shift of the rows, those of the columns; rows, columns, skip_diagonal) -> z
void lower_product_softmax(const NodeView& node, LaunchWriter& writer) {
  Ref panels(Ref::Kind::workspace, -1);
  CutProducts cut = cut_products(node, writer, panels, 4 * node.input(0).dim(1) + 20);
  ProductSoftmaxArgs args{};
  args.products = cut.products;
  int next = 2;
  if (node.flag("rows")) {
    writer.read(&args.row_factor, node.input(next++));
    writer.read(&args.row_shift, node.input(next++));
  }
  if (node.flag("columns")) {
    writer.read(&args.column_factor, node.input(next++));
    writer.read(&args.column_shift, node.input(next));
  }
  writer.read(&args.products.x, node.input(0));
  writer.read(&args.products.y_panels, panels);
  writer.read(&args.y, node.input(1));
  writer.write(&args.z, node.output(0));
  writer.add<Kernel::product_softmax>(args, cut.info);
}

}  // namespace handmill
