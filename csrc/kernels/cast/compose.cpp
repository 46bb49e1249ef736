// Rows of a batch that are put together: some entries of one row, the others of a background.
#include "kernels/cast/args.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

constexpr int64_t kTile = 512;      // entries for which masks are kept
constexpr int64_t kPlayers = 1024;  // players for whom masks are kept
constexpr int64_t kStep = 16;       // entries that are computed together

// All bits set where a bit is.
template <class Word>
HM_INLINE Word mask_of(uint32_t bit) {
  return static_cast<Word>(Word{0} - static_cast<Word>(bit));
}

// Of the bits of a coalition's number, which say who is there. The last is never set: of player -1.
HM_INLINE uint32_t bit_of(uint32_t coalition, int32_t player) {
  return (coalition >> (static_cast<uint32_t>(player) & 31)) & 1;
}

// Whether each entry is a player of its own, in their order.
bool has_entries_for_players(const ComposeRowsArgs& a) {
  if (a.players != a.row_size) return false;
  bool differs = false;
  for (int64_t e = 0; e < a.row_size; ++e) differs |= a.player[e] != e;
  return !differs;
}

// All bits set where an entry is the row's.
template <class Word>
void expand_mask(const ComposeRowsArgs& a, bool are_entries, int64_t coalition, int64_t first,
                 int64_t count, Word* mask) {
  const int32_t* player = a.player + first;
  if (a.members == nullptr) {
    const auto bits = static_cast<uint32_t>(coalition);
    for (int64_t e = 0; e < count; ++e) mask[e] = mask_of<Word>(bit_of(bits, player[e]));
    return;
  }
  const uint8_t* members = a.members + coalition * a.players;
  if (are_entries) {
    for (int64_t e = 0; e < count; ++e) mask[e] = mask_of<Word>(members[first + e] != 0);
    return;
  }
  if (a.players > kPlayers || a.players > 4 * count) {
    for (int64_t e = 0; e < count; ++e) {
      mask[e] = mask_of<Word>(player[e] >= 0 && members[player[e]] != 0);
    }
    return;
  }
  Word of_player[kPlayers + 1];  // that of -1 first
  of_player[0] = 0;
  for (int64_t j = 0; j < a.players; ++j) of_player[j + 1] = mask_of<Word>(members[j] != 0);
  for (int64_t e = 0; e < count; ++e) mask[e] = of_player[player[e] + 1];
}

template <class Word>
void repeat(Word* items, int64_t count, int64_t times) {
  for (int64_t n = 1; n < times; n *= 2) {
    const int64_t more = n < times - n ? n : times - n;
    std::memcpy(items + n * count, items, static_cast<size_t>(more * count) * sizeof(Word));
  }
}

// A tile has all entries of as many rows as fit, or some of the entries of a row.
template <class Word>
void compose(const ComposeRowsArgs& a, int64_t begin, int64_t end) {
  alignas(64) Word mask[kTile], row[kTile];
  const int64_t size = a.row_size;
  const bool are_entries = has_entries_for_players(a);
  for (int64_t first = 0; first < size; first += kTile) {
    const int64_t count = size - first < kTile ? size - first : kTile;
    const int64_t fitting = count == size ? kTile / size : 1;
    std::memcpy(row, static_cast<const Word*>(a.row) + first,
                static_cast<size_t>(count) * sizeof(Word));
    repeat(row, count, fitting);
    for (int64_t i = begin; i < end;) {
      const int64_t coalition = (a.position + i) / a.background_rows;
      const int64_t from = (a.position + i) % a.background_rows;
      const int64_t left = a.background_rows - from;
      const int64_t rows = left < end - i ? left : end - i;
      const int64_t tile = fitting < rows ? fitting : rows;
      expand_mask(a, are_entries, coalition, first, count, mask);
      repeat(mask, count, tile);
      for (int64_t done = 0; done < rows; done += tile) {
        const int64_t items = (rows - done < tile ? rows - done : tile) * count;
        const Word* absent = static_cast<const Word*>(a.background) + (from + done) * size + first;
        Word* y = static_cast<Word*>(a.y) + (i + done) * size + first;
        for (int64_t e = 0; e < items; ++e) {
          y[e] = static_cast<Word>(absent[e] ^ (mask[e] & (row[e] ^ absent[e])));
        }
      }
      i += rows;
    }
  }
}

// All coalitions with one background row: a mask is used once, so it is not kept. Rows are written
// in whole steps, over the beginning of those that come next.
template <class Word>
void compose_numbered(const ComposeRowsArgs& a, int64_t begin, int64_t end) {
  alignas(64) Word absent[kTile] = {}, change[kTile] = {}, last[kTile];
  alignas(64) int32_t player[kTile] = {};
  const int64_t size = a.row_size, padded = (size + kStep - 1) / kStep * kStep;
  for (int64_t e = 0; e < size; ++e) {
    absent[e] = static_cast<const Word*>(a.background)[e];
    change[e] = static_cast<Word>(static_cast<const Word*>(a.row)[e] ^ absent[e]);
    player[e] = a.player[e];
  }
  for (int64_t i = begin; i < end; ++i) {
    const auto coalition = static_cast<uint32_t>(a.position + i);
    Word* y = static_cast<Word*>(a.y) + i * size;
    Word* to = i * size + padded <= end * size ? y : last;
    for (int64_t first = 0; first < padded; first += kStep) {
      for (int64_t e = first; e < first + kStep; ++e) {
        const Word mask = mask_of<Word>(bit_of(coalition, player[e]));
        to[e] = static_cast<Word>(absent[e] ^ (mask & change[e]));
      }
    }
    if (to == last) std::memcpy(y, last, static_cast<size_t>(size) * sizeof(Word));
  }
}

template <class Word>
void compose_any(const ComposeRowsArgs& a, int64_t begin, int64_t end) {
  const bool is_numbered = a.members == nullptr && a.background_rows == 1 && a.row_size <= kTile;
  is_numbered ? compose_numbered<Word>(a, begin, end) : compose<Word>(a, begin, end);
}

}  // namespace

void compose_rows(const ComposeRowsArgs& a, Range blocks, void*) {
  const int64_t begin = blocks.begin * a.rows_per_block;
  const int64_t limit = blocks.end * a.rows_per_block;
  const int64_t end = limit < a.rows ? limit : a.rows;
  if (a.item_bytes == 8) return compose_any<uint64_t>(a, begin, end);
  if (a.item_bytes == 4) return compose_any<uint32_t>(a, begin, end);
  if (a.item_bytes == 2) return compose_any<uint16_t>(a, begin, end);
  compose_any<uint8_t>(a, begin, end);
}

}  // namespace handmill::HM_ISA
