// Convolutions with one filter a channel. Formula and the meaning of a block: args.h. A sum is one
// chain of fused multiply-adds over the taps of its class, in the order of the places that they
// meet.
#include "kernels/convolution/depthwise.h"

#include "simd/activations.h"

namespace handmill::HM_ISA {
namespace {

// What follows the sum of a vector at once; all else is done to a whole row.
struct Finish {
  const float* scale;  // null: none
  const float* bias;   // null: none
  const float* gate;   // null: none; from the first element of c on
  bool relu, relu6, gates_relu6;
  bool is_empty;
  bool has_rest;

  explicit Finish(const MatmulEpilogue& e) {
    const bool is_plain = e.residual == nullptr;
    relu = is_plain && e.activation == Activation::relu;
    relu6 = is_plain && e.activation == Activation::relu6;
    const bool is_active = relu || relu6 || (is_plain && e.activation == Activation::none);
    gates_relu6 = e.grad == ActivationGrad::relu6;
    const bool gates = is_active && (gates_relu6 || e.grad == ActivationGrad::relu);
    scale = floats(e.scale);
    bias = floats(e.bias);
    gate = gates ? floats(e.grad_of) : nullptr;
    is_empty = scale == nullptr && bias == nullptr && gate == nullptr && !relu && !relu6;
    has_rest = !is_active || (!gates && e.grad != ActivationGrad::none);
  }

  // Of the first `count` sums of channel d, whose places in c are `at`, at + step, ...
  template <bool kWhole, class Lanes>
  HM_INLINE void apply(Vec (&sum)[kTogether], int64_t count, int64_t d, int64_t at, int64_t step,
                       Lanes lanes) const {
    const auto each = [&](auto f) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int t = 0; t < kTogether; ++t) sum[t] = f(sum[t]);
    };
    if (scale != nullptr) {
      const Vec by = lanes.load(scale + d);
      each([&](Vec s) { return s * by; });
    }
    if (bias != nullptr) {
      const Vec by = lanes.load(bias + d);
      each([&](Vec s) { return s + by; });
    }
    if (relu) each([](Vec s) { return at_least(s, Vec::zero()); });
    if (relu6) each([](Vec s) { return HM_ISA::relu6(s); });
    if (gate == nullptr) return;
#pragma GCC unroll 4
    for (int t = 0; t < kTogether; ++t) {
      if (!kWhole && t >= count) continue;
      const Vec of = lanes.load(gate + at + t * step);
      sum[t] = gates_relu6 ? relu6_grad(sum[t], of) : relu_grad(sum[t], of);
    }
  }
};

// One row of outputs, positions of one class.
struct OutputRow {
  const TapLine &down, &across;
  const Finish& finish;
  SourceRows rows;
  const float* image;
  const float* w;
  float* c;
  int64_t first_place;  // down
  int64_t w_row, channels;
  int64_t at, step;    // of c: the first position, from one to the next
  int64_t begin, end;  // channels

  const float* kernel_at(int64_t k) const {
    return w + (down.tap + k * down.tap_step) * w_row + across.tap * channels;
  }

  template <int L, int S, bool kInside>
  void group(int64_t j, int count) const {
    if constexpr (L == 0) {
      any_group<kInside>(j, count);
    } else {
      const Places<L, S, kInside> places(down, across, rows, j, channels, begin);
      const float* w_of[SourceRows::kMost];
      for (int64_t k = 0; k < down.count; ++k) w_of[k] = kernel_at(k);
      const int64_t w_step = across.tap_step * channels, lines = down.count;
      for_each_vector(begin, end, [&](int64_t d, auto lanes) __attribute__((always_inline)) {
        Vec sum[kTogether];
#pragma GCC unroll 4
        for (Vec& s : sum) s = Vec::zero();
        for (int64_t k = 0; k < lines; ++k) {
          Vec x[places.kCount];
          places.load(x, k, d, lanes);
#pragma GCC unroll 4
          for (int l = 0; l < L; ++l) {
            const Vec w_l = lanes.load(w_of[k] + d + l * w_step);
#pragma GCC unroll 4
            for (int t = 0; t < kTogether; ++t) sum[t] = fma(x[t * S + l], w_l, sum[t]);
          }
        }
        if constexpr (kInside) fetch_next(places, j, d);
        store<kInside>(sum, j, count, d, lanes);
      });
    }
  }

  // What the next group meets first: of the last row, or, where positions are two places apart, of
  // the last two, which the row of positions before has not met; then also where its sums go.
  template <int L, int S>
  HM_INLINE void fetch_next(const Places<L, S, true>& places, int64_t j, int64_t d) const {
    const int64_t last = down.count - 1;
    if constexpr (S == 1) {
      places.fetch_next(last, d);
      if (d % 16 == 0 && (finish.gate != nullptr || step != channels)) fetch_targets(j, d);
      return;
    }
    if (d % 16 != 0) return;
    const bool of_all = end - begin == channels;
    for (int64_t k = last > 0 ? last - 1 : 0; k <= last; ++k) {
      if (of_all) {
        places.fetch_next_in_order(k, d);
      } else {
        places.fetch_next(k, d);
      }
    }
    if (!of_all) return;
    const float* const next = c + at + (j + kTogether) * step + d * kTogether;
#pragma GCC unroll 4
    for (int t = 0; t < kTogether; ++t) __builtin_prefetch(next + t * 16, 1);
  }

  // Where the next group's sums go, and the gate there: places with gaps, or two streams more.
  HM_INLINE void fetch_targets(int64_t j, int64_t d) const {
    const int64_t next = at + (j + kTogether) * step + d;
#pragma GCC unroll 4
    for (int t = 0; t < kTogether; ++t) {
      __builtin_prefetch(c + next + t * step, 1);
      if (finish.gate != nullptr) __builtin_prefetch(finish.gate + next + t * step);
    }
  }

  template <bool kInside>
  HM_INLINE void any_group(int64_t j, int count) const {
    const int64_t row = across.extent * channels;
    for_each_vector(begin, end, [&](int64_t d, auto lanes) __attribute__((always_inline)) {
      Vec sum[kTogether];
#pragma GCC unroll 4
      for (Vec& s : sum) s = Vec::zero();
      for (int64_t k = 0; k < down.count; ++k) {
        const int64_t place = first_place + k * down.spread;
        const AnyPlaces<kInside, decltype(lanes)> x(
            across, down.is_inside(place) ? image + place * row + d : nullptr,
            across.place + j * across.step, channels, lanes);
        for (int64_t l = 0; l < across.count; ++l) {
          const Vec w_l = lanes.load(kernel_at(k) + d + l * across.tap_step * channels);
#pragma GCC unroll 4
          for (int t = 0; t < kTogether; ++t) sum[t] = fma(x.of(t, l), w_l, sum[t]);
        }
      }
      store<kInside>(sum, j, count, d, lanes);
    });
  }

  template <bool kInside, class Lanes>
  HM_INLINE void store(Vec (&sum)[kTogether], int64_t j, int count, int64_t d, Lanes lanes) const {
    const int64_t first = at + j * step + d;
    if (!finish.is_empty) finish.template apply<kInside>(sum, count, d, first, step, lanes);
#pragma GCC unroll 4
    for (int t = 0; t < kTogether; ++t) {
      if (kInside || t < count) lanes.store(sum[t], c + first + t * step);
    }
  }
};

// Elements of a kernel that stay in L1 while a row goes by.
constexpr int64_t kKernelElements = 4096;

}  // namespace

void depthwise(const DepthwiseArgs& p, Range blocks, void*) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t C = shape.source_channels;
  const Finish finish(p.epilogue);
  const int64_t parts = ceil_div(C * down.kernel * across.kernel, kKernelElements);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t n = block / p.row_blocks, begin = block % p.row_blocks * p.rows_per_block;
    const int64_t rest = down.target - begin;
    const int64_t end = begin + (rest < p.rows_per_block ? rest : p.rows_per_block);
    for (int64_t part = 0; part < parts; ++part) {
      for (int64_t i = begin; i < end; ++i) {
        const TapLine line_down(Taps{down, p.transposed, i % shape.classes[0]});
        for (int64_t class_across = 0; class_across < shape.classes[1]; ++class_across) {
          const Taps taps{across, p.transposed, class_across};
          const TapLine line_across(taps);
          const int64_t first_place = line_down.place + i / shape.classes[0] * line_down.step;
          const float* const image = p.source + n * down.source * across.source * C;
          const OutputRow row{
              .down = line_down,
              .across = line_across,
              .finish = finish,
              .rows = SourceRows(line_down, image, first_place, across.source * C),
              .image = image,
              .w = p.w,
              .c = p.c,
              .first_place = first_place,
              .w_row = across.kernel * C,
              .channels = C,
              .at = ((n * down.target + i) * across.target + class_across) * C,
              .step = taps.target_step() * C,
              .begin = channels_at(part, parts, C),
              .end = channels_at(part + 1, parts, C),
          };
          for_each_group(line_across, row);
        }
      }
    }
    if (finish.has_rest) {
      const int64_t at = (n * down.target + begin) * across.target * C;
      const int64_t size = (end - begin) * across.target * C;
      MatmulEpilogue rest_of = p.epilogue;
      rest_of.bias = nullptr;
      apply_epilogue(rest_of, at, size, p.c + at, size, 1, size, false);
    }
  }
}

}  // namespace handmill::HM_ISA
