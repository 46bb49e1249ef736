// How the two depthwise kernels go over an image: by groups of neighbouring positions of one row,
// for each all its channels, so that memory is read in its order. A group shares what it loads of
// the kernel, and its positions the places of the image where their windows overlap. What lies
// beside the image is zero, and is multiplied like any other element.
#pragma once

#include "kernels/convolution/windows.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {

inline constexpr int kTogether = 4;  // positions of a group

// The taps of a class along an axis, by the source places that they meet: `count` of them, `spread`
// places apart; position 0 meets `place` with the first, which is tap `tap`, the next is tap_step
// further. From one position to the next it is `step` places.
struct TapLine {
  int64_t count, tap, tap_step, place, spread, step;
  int64_t extent;     // of the source
  int64_t positions;  // of the class

  HM_INLINE explicit TapLine(const Taps& taps) : tap_step(1), spread(1) {
    int64_t first = -1, second = -1;
    count = 0;
    for (int64_t k = 0; k < taps.axis.kernel; ++k) {
      if (!taps.has(k)) continue;
      if (count == 0) first = k;
      if (count == 1) second = k;
      ++count;
    }
    tap = first;
    place = count > 0 ? taps.source(first) : 0;
    if (count > 1) {
      tap_step = second - first;
      spread = taps.source(second) - place;
    }
    if (spread < 0) {  // transposed: the last tap meets the first place
      tap += (count - 1) * tap_step;
      place += (count - 1) * spread;
      tap_step = -tap_step;
      spread = -spread;
    }
    step = taps.source_step();
    extent = taps.axis.source;
    positions = taps.targets();
  }

  HM_INLINE bool is_inside(int64_t at) const { return 0 <= at && at < extent; }
};

alignas(64) inline constexpr float kZeros[16] = {};

// The places that a group meets in one row of the image, all null beside it. With L > 0 there are L
// neighbouring taps, and positions S places apart: places that windows share are loaded once.
template <int L, int S, bool kInside, class Lanes>
struct Places {
  Vec x[(kTogether - 1) * S + L];

  HM_INLINE Places(const TapLine& line, const float* row, int64_t first, int64_t channels,
                   Lanes lanes) {
    // Selected addresses: branches would cost more than the loads, and registers.
    const float* const begin = row == nullptr ? kZeros : row + first * channels;
    const int64_t step = row == nullptr ? 0 : channels;
#pragma GCC unroll 16
    for (int m = 0; m < (kTogether - 1) * S + L; ++m) {
      x[m] = lanes.load(kInside || line.is_inside(first + m) ? begin + m * step : kZeros);
    }
  }
  HM_INLINE Vec of(int t, int64_t l) const { return x[t * S + l]; }
};

template <bool kInside, class Lanes>
struct Places<0, 0, kInside, Lanes> {
  const TapLine& line;
  const float* row;
  int64_t first, channels;
  Lanes lanes;

  HM_INLINE Places(const TapLine& line_, const float* row_, int64_t first_, int64_t channels_,
                   Lanes lanes_)
      : line(line_), row(row_), first(first_), channels(channels_), lanes(lanes_) {}
  HM_INLINE Vec of(int t, int64_t l) const {
    const int64_t at = first + t * line.step + l * line.spread;
    const bool exists = row != nullptr && (kInside || line.is_inside(at));
    return exists ? lanes.load(row + at * channels) : Vec::zero();
  }
};

template <int L, class F>
HM_INLINE void for_each_tap(int64_t count, F f) {
  if constexpr (L > 0) {
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) f(l);
  } else {
    for (int64_t l = 0; l < count; ++l) f(l);
  }
}

// f.template group<L, S, kInside>(j, count) for the positions of a line: kInside if all kTogether
// exist and meet the image alone, otherwise `count` of them exist.
template <int L, int S, class F>
HM_INLINE void groups_of(const TapLine& line, const F& f) {
  const int64_t reach = (kTogether - 1) * line.step + (line.count - 1) * line.spread;
  for (int64_t j = 0; j < line.positions; j += kTogether) {
    const int64_t left = line.positions - j, first = line.place + j * line.step;
    if (left >= kTogether && first >= 0 && first + reach < line.extent) {
      f.template group<L, S, true>(j, kTogether);
    } else {
      f.template group<L, S, false>(j, static_cast<int>(left < kTogether ? left : kTogether));
    }
  }
}

template <class F>
HM_INLINE void for_each_group(const TapLine& line, const F& f) {
  const bool adjacent = line.spread == 1;
  if (adjacent && line.count == 3 && line.step == 1) return groups_of<3, 1>(line, f);
  if (adjacent && line.count == 3 && line.step == 2) return groups_of<3, 2>(line, f);
  if (adjacent && line.count == 2 && line.step == 1) return groups_of<2, 1>(line, f);
  if (adjacent && line.count == 1 && line.step == 1) return groups_of<1, 1>(line, f);
  groups_of<0, 0>(line, f);
}

// Channels are cut into parts of whole vectors, of as equal sizes as possible.
HM_INLINE int64_t channels_at(int64_t part, int64_t parts, int64_t channels) {
  const int64_t at = Split(ceil_div(channels, 16), parts).at(part) * 16;
  return at < channels ? at : channels;
}

}  // namespace handmill::HM_ISA
