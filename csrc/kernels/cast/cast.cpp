// Conversions between dtypes: whole arrays, and the rows of a batch gathered from a data set.
#include "kernels/cast/args.h"
#include "kernels/cast/convert.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

using ConvertItems = void (*)(const void* x, void* y, int64_t n);

template <class From, class To>
void convert_items(const void* x, void* y, int64_t n) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for (int64_t i = 0; i < n; ++i) {
    // The empty statement keeps a loop scalar: as vectors the rare conversions take 35 KB a level.
    if constexpr (!kIsSame<From, float> && !kIsSame<To, float>) asm volatile("");
    to[i] = convert<To>(from[i]);
  }
}

template <int kBytes>
void copy_items(const void* x, void* y, int64_t n) {
  if (n > 0 && x != y) std::memcpy(y, x, static_cast<size_t>(n) * kBytes);
}

int64_t item_bytes(Dtype type) {
  int64_t bytes = 1;
  with_element_type(type, [&]<class T>(ElementType<T>) { bytes = sizeof(T); });
  return bytes;
}

ConvertItems converter(Dtype from, Dtype to) {
  if (from == to) {
    const int64_t bytes = item_bytes(from);
    return bytes == 8   ? copy_items<8>
           : bytes == 4 ? copy_items<4>
           : bytes == 2 ? copy_items<2>
                        : copy_items<1>;
  }
  ConvertItems found = nullptr;
  with_element_type(from, [&]<class From>(ElementType<From>) {
    with_element_type(to, [&]<class To>(ElementType<To>) {
      if constexpr (!kIsSame<From, To>) found = convert_items<From, To>;
    });
  });
  return found;
}

// One item of kBytes for each row.
template <size_t kBytes>
void gather_items(const GatherRowsArgs& a, int64_t begin, int64_t end) {
  const char* source = static_cast<const char*>(a.source);
  char* y = static_cast<char*>(a.y);
  const int64_t* order = a.order + a.position;
  for (int64_t i = begin; i < end; ++i) {
    std::memcpy(y + static_cast<size_t>(i) * kBytes,
                source + static_cast<size_t>(order[i]) * kBytes, kBytes);
  }
}

// Rows of whole words, moved as floats; the first lines of those that follow are fetched meanwhile.
void gather_words(const GatherRowsArgs& a, int64_t words, int64_t begin, int64_t end) {
  constexpr int64_t kAhead = 8, kLines = 4;
  const float* source = static_cast<const float*>(a.source);
  const int64_t* order = a.order + a.position;
  const int64_t fetched = words < 16 * kLines ? words : 16 * kLines;
  for (int64_t i = begin; i < end; ++i) {
    if (i + kAhead < end) {
      const float* next = source + order[i + kAhead] * words;
      for (int64_t n = 0; n < fetched; n += 16) __builtin_prefetch(next + n);
    }
    const float* row = source + order[i] * words;
    float* y = static_cast<float*>(a.y) + i * words;
    for_each_vector(0, words,
                    [&](int64_t n, auto lanes) { lanes.store(lanes.load(row + n), y + n); });
  }
}

const void* at(const void* base, int64_t bytes) { return static_cast<const char*>(base) + bytes; }
void* at(void* base, int64_t bytes) { return static_cast<char*>(base) + bytes; }

}  // namespace

void cast(const CastArgs& a, Range blocks, void*) {
  const int64_t begin = blocks.begin * a.per_block;
  const int64_t end = blocks.end * a.per_block < a.size ? blocks.end * a.per_block : a.size;
  if (begin >= end) return;
  converter(a.from, a.to)(at(a.x, begin * item_bytes(a.from)), at(a.y, begin * item_bytes(a.to)),
                          end - begin);
}

// y = x + 1, wrapping around
void increment(const IncrementArgs& a, Range, void*) {
  for (int64_t i = 0; i < a.size; ++i) {
    a.y[i] = static_cast<int64_t>(static_cast<uint64_t>(a.x[i]) + 1);
  }
}

void gather_rows(const GatherRowsArgs& a, Range blocks, void*) {
  const int64_t begin = blocks.begin * a.rows_per_block;
  const int64_t limit = blocks.end * a.rows_per_block;
  const int64_t end = limit < a.rows ? limit : a.rows;
  const int64_t from_row = a.row_size * item_bytes(a.from), to_row = a.row_size * item_bytes(a.to);
  const ConvertItems convert_row = converter(a.from, a.to);
  if (begin >= end) return;
  if (a.order == nullptr) {
    convert_row(at(a.source, (a.position + begin) * from_row), at(a.y, begin * to_row),
                (end - begin) * a.row_size);
    return;
  }
  if (a.from == a.to && from_row == 4) return gather_items<4>(a, begin, end);
  if (a.from == a.to && from_row == 8) return gather_items<8>(a, begin, end);
  const bool has_words = from_row % 4 == 0 && reinterpret_cast<uintptr_t>(a.source) % 4 == 0;
  if (a.from == a.to && has_words) return gather_words(a, from_row / 4, begin, end);
  for (int64_t i = begin; i < end; ++i) {
    convert_row(at(a.source, a.order[a.position + i] * from_row), at(a.y, i * to_row), a.row_size);
  }
}

}  // namespace handmill::HM_ISA
