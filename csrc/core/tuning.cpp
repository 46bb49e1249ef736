#include "core/tuning.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

namespace handmill {
namespace {

constexpr MatmulTuning kPortable = {.long_row = 1024,
                                    .copy_rows = 64,
                                    .copy_aliasing_rows = 24,
                                    .block_rows = 192,
                                    .tall_block_rows = 192,
                                    .rows_ahead = 48,
                                    .fetches_in_place = false,
                                    .fetches_next_panel = false,
                                    .copies_tall_aliasing_rows = false,
                                    .update_columns = 0,
                                    .few_rows = 0,
                                    .few_rows_of_large = 0,
                                    .tall_narrow = false};

// Zen 4 at avx2, for CPUs without AVX-512 too: no other was measured. us, one thread, 2026-11:
// long_row: 1 x 512 x 784 by panels 23.8, by rows 19.1. copy_rows: 16 x 512 x 784 158 in place, 145
// copied; 12 rows 122, 123. rows_ahead: 12 some 5 % slower, 24 and 96 no faster. block_rows:
// 1056 x 264 x 1056 92.9 % of the peak with 192, 89.1 with 384; tall_block_rows and
// copies_tall_aliasing_rows: 4096^3 86.7 -> 89.6 %. fetches_next_panel: 2048^3 88.4 -> 91.6 %.
constexpr MatmulTuning kAvx2 = {.long_row = 512,
                                .copy_rows = 16,
                                .copy_aliasing_rows = 16,
                                .block_rows = 192,
                                .tall_block_rows = 384,
                                .rows_ahead = 48,
                                .fetches_in_place = false,
                                .fetches_next_panel = true,
                                .copies_tall_aliasing_rows = true,
                                .update_columns = 0,
                                .few_rows = 0,
                                .few_rows_of_large = 0,
                                .tall_narrow = false};

// Zen 4 at avx512. long_row: 1 x 1024 x 1024 by panels 69.8 us, by rows 56.5. copy_rows: 48 rows of
// 512 x 784 333 us in place, 346 copied. copy_aliasing_rows: 24 x 1024 x 1024 550 us in place, 485
// copied; 16 rows 296, 341. tall_block_rows: 4096^3 89.1 % of the peak with 192, 91.2 % with 384.
// fetches_next_panel: no gain; fetches_in_place (B 16 rows ahead): 8 x 1024 x 1024 90 -> 77 %;
// copies_tall_aliasing_rows: 4096^3 91.7 -> 89.3 %.
constexpr MatmulTuning kAvx512OnZen4 = {.long_row = 512,
                                        .copy_rows = 64,
                                        .copy_aliasing_rows = 24,
                                        .block_rows = 192,
                                        .tall_block_rows = 384,
                                        .rows_ahead = 48,
                                        .fetches_in_place = false,
                                        .fetches_next_panel = false,
                                        .copies_tall_aliasing_rows = false,
                                        .update_columns = 0,
                                        .few_rows = 0,
                                        .few_rows_of_large = 0,
                                        .tall_narrow = false};

// Sapphire Rapids (48 KB L1, 2 MB L2, 22 GB/s a core from L3 and from memory), one thread, least
// time of the thread, neighbours not quiet, 2026-11. Its multipliers are twice as fast as Zen 4's
// and what feeds them is slower, so that B has to be fetched in time. us:
// fetches_in_place, without and 8, 16, 32 rows ahead: 8 x 512 x 784 66, 47, 56, 65;
//   8 x 1024 x 1024 434, 245, 299, 300; 8 x 4096 x 2048 8390, 4370, 2930, 3350; 12 and 16 ahead:
//   2 x 512 x 784 43, 52, 7 x 1024 x 1024 258, 285, 12 x 1024 x 1024 515, 563.
// copy_rows (in place, copied): 16 x 1024 x 1024 882, 492; 16 x 4096 x 256 918, 519;
//   32 x 512 x 784 321, 227; 12 rows alike. rows_ahead of a copy, 48, 16 and 8: 32 x 512 x 784 241,
//   203, 196; 16 x 4096 x 256 631, 533, 719; 64 x 4096 x 64 320, 280, 279.
// few_rows (6 x 64, 8 x 48): 8 x 512 x 784 106, 76; 7 x 1024 x 1024 559, 285; 16 x 512 x 784 147,
//   122; from 24 rows on nothing or a loss (64 x 4096 x 64 247, 266).
// fetches_next_panel: 1536^3 53.4 -> 50.9 ms, 1024^3 15.3 -> 14.8.
// update_columns, a step of fit on two threads without and with it: 784-128-10, batch 64 287, 156;
//   256-128-10 102, 63; 256-256-256-10 354, 232; 784-256-10, batch 32 328, 198.
// The CPU called model 167 (480 MB L3), us, 2026-11-30. rows_ahead 12, 10, 8: 8 x 4096 x 2048 1890,
//   1792, 1755; 16 x 1024 x 1024 430, 406, 387; 8 x 512 x 784 56, 55, 56 (8 lost on Sapphire
//   Rapids).
// few_rows_of_large, 6 x 64 and 8 x 48: 32 x 1024 x 1024 781, 702; 32 x 512 x 784 246, 233;
//   128 x 1024 x 1024 2172, 2038; 256 x 512 x 784 1478, 1512.
// tall_narrow: 32 x 10 x 256 3.2, 2.7; 1024 x 10 x 128 36.9, 33.2; 128 x 32 x 256 15.6, 15.0.
constexpr MatmulTuning kAvx512OnIntel = {.long_row = 512,
                                         .copy_rows = 9,
                                         .copy_aliasing_rows = 9,
                                         .block_rows = 192,
                                         .tall_block_rows = 384,
                                         .rows_ahead = 10,
                                         .fetches_in_place = true,
                                         .fetches_next_panel = true,
                                         .copies_tall_aliasing_rows = false,
                                         .update_columns = 1024,
                                         .few_rows = 16,
                                         .few_rows_of_large = 128,
                                         .tall_narrow = true};

// The same CPU at avx2: 8 x 512 x 784 185 us without fetching, 126 16 rows ahead (32: 186);
// 4 x 512 x 784 116, 77; 8 x 1024 x 1024 680, 541; copied from 9 rows on instead of 16: 126 -> 147.
constexpr MatmulTuning kAvx2OnIntel = {.long_row = 512,
                                       .copy_rows = 16,
                                       .copy_aliasing_rows = 16,
                                       .block_rows = 192,
                                       .tall_block_rows = 384,
                                       .rows_ahead = 16,
                                       .fetches_in_place = true,
                                       .fetches_next_panel = true,
                                       .copies_tall_aliasing_rows = true,
                                       .update_columns = 1024,
                                       .few_rows = 0,
                                       .few_rows_of_large = 0,
                                       .tall_narrow = false};

// What pays for waking a thread: some 3 us of work; and what a barrier costs the run: 3 us, most of
// it waiting for the slower thread (two threads on 54 small nets, Zen 4: the second gains from some
// 80 us a training step on). What pays for a region that is opened for one call alone, and for one
// that updates variables (model 167, one thread and two, us): 64^3 3.5, 4.0, 72^3 6.0, 5.4;
// 64-128-10 called with 64 rows 10.4, 11.5, 128 rows 21, 16; its training step with 32, 64, 128
// rows 20, 30; 30, 36; 55, 61, while steps that share a region take the same time on one and two.
constexpr ThreadTuning kThreads = {
    .per_thread = 150e3, .per_barrier = 250e3, .per_call = 420e3, .per_step = 1100e3};

constexpr Tuning kTunings[] = {
    {"generic", "any CPU without AVX2", kPortable, kAvx2, kAvx512OnZen4, kThreads},
    {"avx2", "any CPU with AVX2 and without AVX-512", kPortable, kAvx2, kAvx512OnZen4, kThreads},
    {"zen4", "AMD with AVX-512", kPortable, kAvx2, kAvx512OnZen4, kThreads},
    {"icelake", "Intel with AVX-512, two 512-bit FMA ports", kPortable, kAvx2OnIntel,
     kAvx512OnIntel, kThreads},
};

const Tuning* find(std::string_view name) {
  const Tuning* const end = std::end(kTunings);
  const Tuning* const found =
      std::find_if(std::begin(kTunings), end, [&](const Tuning& t) { return t.name == name; });
  return found == end ? nullptr : found;
}

const Tuning& detect() {
  const Isa best = available_isas().back();
  if (best >= Isa::avx512) return *find(cpu_vendor() == "GenuineIntel" ? "icelake" : "zen4");
  return *find(best == Isa::avx2 ? "avx2" : "generic");
}

std::atomic<const Tuning*> chosen_tuning{nullptr};

}  // namespace

const MatmulTuning& Tuning::matmul(Isa isa) const {
  switch (isa) {
    case Isa::avx512_bf16:
    case Isa::avx512:
      return avx512;
    case Isa::avx2:
      return avx2;
    default:
      return portable;
  }
}

std::span<const Tuning> tunings() { return kTunings; }

const Tuning& detected_tuning() {
  static const Tuning& detected = detect();
  return detected;
}

const Tuning& current_tuning() {
  const Tuning* tuning = chosen_tuning.load(std::memory_order_relaxed);
  return tuning == nullptr ? detected_tuning() : *tuning;
}

void set_tuning(std::string_view name) {
  const Tuning* tuning = find(name);
  if (tuning == nullptr) {
    std::string list;
    for (const Tuning& t : kTunings) list += (list.empty() ? "" : ", ") + std::string(t.name);
    throw std::runtime_error("no tuning \"" + std::string(name) + "\"; there are: " + list);
  }
  chosen_tuning.store(tuning, std::memory_order_relaxed);
}

}  // namespace handmill
