// Fourier transforms of windows of real numbers.
#include <array>
#include <cmath>
#include <mutex>
#include <vector>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

constexpr int64_t kLongestTransform = 1 << 16;
constexpr int64_t kWidestVector = 16;
constexpr int64_t kWindowsOfABlock = 32;

// cos and -sin of 2 pi k / N for k < N; made once for each N, of which there are few.
const float* turns_of(int64_t N) {
  static std::mutex mutex;
  static std::array<std::vector<float>, 32> tables;
  const std::scoped_lock lock(mutex);
  std::vector<float>& table = tables[static_cast<size_t>(std::log2(static_cast<double>(N)) + 0.5)];
  if (table.empty()) {
    table.resize(static_cast<size_t>(2 * N));
    for (int64_t k = 0; k < N; ++k) {
      const double angle =
          2 * 3.14159265358979323846 * static_cast<double>(k) / static_cast<double>(N);
      table[static_cast<size_t>(2 * k)] = static_cast<float>(std::cos(angle));
      table[static_cast<size_t>(2 * k + 1)] = static_cast<float>(-std::sin(angle));
    }
  }
  return table.data();
}

RfftArgs transforms_of(const NodeView& node, int64_t N, int64_t windows) {
  require(N >= 8 && N <= kLongestTransform && (N & (N - 1)) == 0, node.kernel(), ": a length of ",
          N);
  RfftArgs args{};
  args.N = N;
  args.windows = windows;
  args.per_block = kWindowsOfABlock;
  args.turns = turns_of(N);
  return args;
}

LaunchInfo launch_of(const RfftArgs& args, bool empty) {
  const int64_t count = args.M * args.windows;
  const double log = std::log2(static_cast<double>(args.N));
  return {.blocks = empty ? 0 : ceil_div(count, args.per_block),
          .scratch = 2 * args.N * kWidestVector * static_cast<int64_t>(sizeof(float)),
          .flops = static_cast<double>(count) * 2.5 * static_cast<double>(args.N) * log};
}

}  // namespace

// (x, factors; stride) -> real, imag
void lower_rfft(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), factors = node.input(1), real = node.output(0);
  RfftArgs args = transforms_of(node, factors.size(), real.dim(-2));
  args.T = x.dim(-1);
  args.M = args.T == 0 ? 0 : x.size() / args.T;
  args.stride = node.i64("stride");
  writer.read(&args.x, x);
  writer.read(&args.factors, factors);
  writer.write(&args.real, real);
  writer.write(&args.imag, node.output(1));
  writer.add<Kernel::rfft>(args, launch_of(args, real.size() == 0));
}

// (real, imag; size) -> y
void lower_rfft_adjoint(const NodeView& node, LaunchWriter& writer) {
  const ValueView y = node.output(0);
  RfftArgs args = transforms_of(node, node.i64("size"), 1);
  args.M = y.size() / args.N;
  writer.read(&args.real_in, node.input(0));
  writer.read(&args.imag_in, node.input(1));
  writer.write(&args.y, y);
  writer.add<Kernel::rfft_adjoint>(args, launch_of(args, y.size() == 0));
}

}  // namespace handmill
