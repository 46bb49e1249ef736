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

// The rows of an image that the taps of one position down meet, null beside it.
struct SourceRows {
  static constexpr int64_t kMost = 8;
  const float* of[kMost];
  bool are_few;    // at most kMost; otherwise nothing else here holds
  bool all_exist;  // of them

  HM_INLINE SourceRows(const TapLine& down, const float* image, int64_t first, int64_t row)
      : are_few(down.count <= kMost), all_exist(true) {
    for (int64_t k = 0; are_few && k < down.count; ++k) {
      const int64_t place = first + k * down.spread;
      of[k] = down.is_inside(place) ? image + place * row : nullptr;
      all_exist &= of[k] != nullptr;
    }
  }
};

// As many channels as a part may have where places beside the image are read from here.
inline constexpr int64_t kMostChannels = 4096;
alignas(64) inline float zeros[kMostChannels + 16];  // never written; takes no bytes in the library

// The places that a group meets in the rows of the image, for L neighbouring taps and positions S
// places apart: what windows share is loaded once. All addresses are found before the loop over
// channels, in which each costs more than its load otherwise.
template <int L, int S, bool kInside>
struct Places {
  static constexpr int kCount = (kTogether - 1) * S + L;
  const float* at[SourceRows::kMost][kInside ? 1 : kCount];
  int64_t channels;

  HM_INLINE Places(const TapLine& down, const TapLine& across, const SourceRows& rows, int64_t j,
                   int64_t channels_, int64_t begin)
      : channels(channels_) {
    const int64_t first = across.place + j * across.step;
    for (int64_t k = 0; k < down.count; ++k) {
      const float* const row = rows.of[k];
      if constexpr (kInside) {
        at[k][0] = row + first * channels;
      } else {
        for (int m = 0; m < kCount; ++m) {
          const bool exists = row != nullptr && across.is_inside(first + m);
          at[k][m] = exists ? row + (first + m) * channels : zeros - begin;
        }
      }
    }
  }

  template <class Lanes>
  HM_INLINE void load(Vec (&x)[kCount], int64_t k, int64_t d, Lanes lanes) const {
#pragma GCC unroll 16
    for (int m = 0; m < kCount; ++m) {
      x[m] = lanes.load(kInside ? at[k][0] + d + m * channels : at[k][m] + d);
    }
  }

  // What the next group meets first in row k.
  HM_INLINE void fetch_next(int64_t k, int64_t d) const {
    fetch(at[k][0] + d + kCount * channels, channels);
  }
  // The same for groups of all channels, a line for each 16 of them, in the order of the memory.
  HM_INLINE void fetch_next_in_order(int64_t k, int64_t d) const {
    fetch(at[k][0] + d * kTogether * S + kCount * channels, 16);
  }

 private:
  HM_INLINE static void fetch(const float* first, int64_t gap) {
#pragma GCC unroll 8
    for (int m = 0; m < kTogether * S; ++m) __builtin_prefetch(first + m * gap);
  }
};

// The same for any taps, place by place.
template <bool kInside, class Lanes>
struct AnyPlaces {
  const TapLine& line;
  const float* row;
  int64_t first, channels;
  Lanes lanes;

  HM_INLINE AnyPlaces(const TapLine& line_, const float* row_, int64_t first_, int64_t channels_,
                      Lanes lanes_)
      : line(line_), row(row_), first(first_), channels(channels_), lanes(lanes_) {}
  HM_INLINE Vec of(int t, int64_t l) const {
    const int64_t at = first + t * line.step + l * line.spread;
    const bool exists = row != nullptr && (kInside || line.is_inside(at));
    return exists ? lanes.load(row + at * channels) : Vec::zero();
  }
};

// f.template group<L, S, kInside>(j, count) for the positions of a line: kInside if all kTogether
// exist and meet the image alone, otherwise `count` of them exist. With L > 0 for L neighbouring
// taps, positions S places apart.
template <int L, int S, class F>
HM_INLINE void groups_of(const TapLine& line, const F& f) {
  const int64_t reach = (kTogether - 1) * line.step + (line.count - 1) * line.spread;
  for (int64_t j = 0; j < line.positions; j += kTogether) {
    const int64_t left = line.positions - j, first = line.place + j * line.step;
    if (f.rows.all_exist && left >= kTogether && first >= 0 && first + reach < line.extent) {
      f.template group<L, S, true>(j, kTogether);
    } else {
      f.template group<L, S, false>(j, static_cast<int>(left < kTogether ? left : kTogether));
    }
  }
}

template <class F>
HM_INLINE void for_each_group(const TapLine& line, const F& f) {
  const bool adjacent = line.spread == 1 && f.rows.are_few && f.end - f.begin <= kMostChannels;
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
