// Images sampled at a projective function of places.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {

namespace {

Border border_of(std::string_view mode) {
  if (mode == "constant") return Border::kConstant;
  if (mode == "nearest") return Border::kNearest;
  if (mode == "wrap") return Border::kWrap;
  if (mode == "mirror") return Border::kMirror;
  require(mode == "reflect", "sample_images: unknown fill_mode ", mode);
  return Border::kReflect;
}

}  // namespace

// (x, matrix; order, fill_mode, fill_value) -> y
void lower_sample_images(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), matrix = node.input(1);
  SampleImagesArgs args{};
  args.B = x.dim(0);
  args.H = x.dim(1);
  args.W = x.dim(2);
  args.C = x.dim(3);
  require(args.H * args.W < (int64_t{1} << 31), "sample_images: an image has too many pixels");
  args.matrix_stride = matrix.dim(0) == 1 ? 0 : 8;
  args.rows_per_band = items_per_block(args.W * args.C);
  args.bands = ceil_div(args.H, args.rows_per_band);
  args.cval = static_cast<float>(node.f64("fill_value"));
  args.border = border_of(node.text("fill_mode"));
  args.order = static_cast<int32_t>(node.i64("order"));
  writer.read(&args.x, x);
  writer.read(&args.matrix, matrix);
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::sample_images>(
      args, {.blocks = x.size() == 0 ? 0 : args.B * args.bands,
             .scratch = args.C * static_cast<int64_t>(sizeof(float)),
             .flops = (args.order == 0 ? 0.0 : 7.0) * static_cast<double>(x.size())});
}

}  // namespace handmill
