// Random numbers and dropout. seed_state is int64 (seed, number of the call).
#include <cmath>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

constexpr int64_t kPerBlock = 4096;
static_assert(kPerBlock % 128 == 0, "the kernels make 128 numbers at once");

template <Kernel kernel>
void lower_random(const NodeView& node, LaunchWriter& writer, double flops) {
  const ValueView states = node.input(0);
  const int64_t size = node.output(0).size();
  if (size == 0) return;
  RandomArgs args{};
  args.rows = states.rank() == 2 ? states.dim(0) : 1;
  args.size = size / args.rows;
  args.per_block = kPerBlock;
  args.rows_per_block = items_per_block(round_up(args.size, 4), kPerBlock / 4);
  const int64_t parts = ceil_div(args.size, kPerBlock);
  writer.read(&args.seed_state, node.input(0));
  writer.write(&args.y, node.output(0));
  writer.add<kernel>(
      args, {.blocks = parts > 1 || args.rows == 1 ? args.rows * parts
                                                   : ceil_div(args.rows, args.rows_per_block),
             .flops = flops * static_cast<double>(size)});
}

}  // namespace

// seed_state, or one for each row of the output -> y, of the output's shape
void lower_random_uniform(const NodeView& node, LaunchWriter& writer) {
  lower_random<Kernel::random_uniform>(node, writer, 12);
}
void lower_random_normal(const NodeView& node, LaunchWriter& writer) {
  lower_random<Kernel::random_normal>(node, writer, 30);
}

// (seed_state; shape of the output, one axis) -> int32, a random order
void lower_random_order(const NodeView& node, LaunchWriter& writer) {
  RandomArgs words{};
  words.size = node.output(0).size();
  words.per_block = kPerBlock;
  words.rows = words.rows_per_block = 1;
  if (words.size == 0) return;
  const Ref drawn = writer.workspace(words.size * 4);
  const Ref items = writer.workspace(words.size * 8), memory = writer.workspace(words.size * 8);
  writer.read(&words.seed_state, node.input(0));
  writer.write(&words.y, drawn);
  writer.add<Kernel::random_words>(words, {.blocks = ceil_div(words.size, kPerBlock)});
  RandomOrderArgs args{};
  args.n = words.size;
  writer.read(&args.words, drawn);
  writer.write(&args.items, items);
  writer.write(&args.memory, memory);
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::random_order>(args, {.blocks = 1});
}

// (x, seed_state; rate) -> x / (1 - rate) where a word is at least rate 2^32, else 0
void lower_dropout(const NodeView& node, LaunchWriter& writer) {
  const double rate = node.f64("rate");
  require(rate >= 0.0 && rate <= 1.0, "dropout: rate must be in [0, 1], got ", rate);
  DropoutArgs args{};
  args.size = node.input(0).size();
  args.per_block = kPerBlock;
  const double threshold = std::floor(rate * 4294967296.0);
  args.drop_all = threshold > 4294967295.0;
  args.threshold = args.drop_all ? UINT32_MAX : static_cast<uint32_t>(threshold);
  args.scale = args.drop_all ? 0.0f : static_cast<float>(1.0 / (1.0 - rate));
  writer.read(&args.x, node.input(0));
  writer.read(&args.seed_state, node.input(1));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::dropout>(args, {.blocks = ceil_div(args.size, kPerBlock),
                                     .flops = 12.0 * static_cast<double>(args.size)});
}

// (numbers of rows, seed_state; view) -> a seed_state for each row
void lower_row_seeds(const NodeView& node, LaunchWriter& writer) {
  RowSeedsArgs args{};
  args.rows = node.input(0).size();
  args.rows_per_block = 256;  // 4 us
  args.view = static_cast<uint32_t>(node.i64("view"));
  writer.read(&args.row_numbers, node.input(0));
  writer.read(&args.seed_state, node.input(1));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::row_seeds>(args, {.blocks = ceil_div(args.rows, args.rows_per_block),
                                       .flops = 60.0 * static_cast<double>(args.rows)});
}

// seed_state -> seed_state
void lower_advance_seed(const NodeView& node, LaunchWriter& writer) {
  AdvanceSeedArgs args{};
  writer.read(&args.seed_state, node.input(0));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::advance_seed>(args, {.blocks = 1});
}

}  // namespace handmill
