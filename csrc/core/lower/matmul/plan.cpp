#include "core/lower/matmul/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/lower/blocks.h"
#include "core/parallel.h"

namespace handmill {
namespace {

int64_t odd_lines(int64_t words) { return ((words + 15) / 16 * 16) | 16; }
int64_t align_bytes(int64_t bytes) { return round_up(bytes, 64); }

constexpr int64_t kWord = 4;  // bytes
// How much longer a multiplication with one row takes: it waits for B.
constexpr double kRowCost = 2.5;
// Least K of a slice where one row is multiplied.
constexpr int64_t kRowSlice = 64;
// Rows of C of a tall product.
constexpr int64_t kTallRows = 2048;
// Rows of C from which packing B once, for all blocks, is worth a launch of its own, unless B is
// narrow.
constexpr int64_t kPackRows = 1024;
// Floats of B from which copying it takes a good part of the time of few rows.
constexpr int64_t kLargeB = 65536;
// Floats of B that stay in L1, and the rows of C from which it is copied all the same.
constexpr int64_t kFirstCache = 8192;
constexpr int64_t kCopySmallRows = 64;
// Longest K whose copied panel of B is kept for the next block: it has to stay in L2.
constexpr int64_t kKeptPanel = 1024;
// Elements of a constant B from which its packed copy is read, whatever the rows: below, B in place
// stays in L1.
constexpr int64_t kPackedSize = 4096;
// Up to this many rows a transposed B is read by dot products.
constexpr int64_t kDotRows = 8;

// Where every block reads copies. What it may keep of one operand: half of a small L2.
constexpr int64_t kKeptBytes = 512 * 1024;
// Rows of C of one block: its sums of one panel stay in L2.
constexpr int64_t kMaxBlockRows = 256;
// Bytes of a constant B that each thread reads as a whole, from its own L2, so that it finds the
// rows of A there that it wrote: a column of blocks for each thread would fetch half of A from the
// other's.
constexpr int64_t kRowsOfSmallB = 256 * 1024;
// Such products of so few row tiles are cut into them: equal parts for any number of threads.
constexpr int64_t kFineTiles = 64;
// What a block of packing looks through for zeros, in panels.
constexpr int64_t kPanelsOfZeros = 4;

// Where blocks share B, a larger one is packed once, in a launch of its own.
constexpr int64_t kSharedBytes = 32 * 1024;

// Blocks wanted: enough for 2 threads early, for 32 and more when the work is large. A finer grid
// would read A and B more often.
int64_t wanted_blocks(double flop, double one_block) {
  if (flop < one_block) return 1;
  if (flop < 8.0 * one_block) return static_cast<int64_t>(std::ceil(flop / one_block));
  return static_cast<int64_t>(std::min(32.0, 8.0 * std::sqrt(flop / (8.0 * one_block))));
}

struct Shape {
  int64_t M, N, K, batch;
  int64_t groups;  // of K
  int64_t row_tiles, panels, vectors;
  double flop;
};

// The register tile of a level, by which K is cut into slices whatever the tuning.
struct Tiles {
  int32_t rows, vectors;
};

Tiles tiles_of(const Shape& s, int32_t vectors, const MatmulTile& tile) {
  const int64_t panels = ceil_div(s.vectors, vectors);
  return {ceil_div(s.vectors, panels) <= 2 ? tile.narrow_rows : tile.rows, vectors};
}

// Rows of C from which B is copied.
int64_t rows_to_copy(const MatmulTuning& tuning, const MatmulArgs& args) {
  if (args.b.row % 1024 == 0) return tuning.copy_aliasing_rows;
  return args.K * args.N <= kFirstCache ? kCopySmallRows : tuning.copy_rows;
}

// Of operands that are read in place where that is fast.
void choose_layouts(const MatmulProblem& problem, int width, MatmulArgs& args) {
  const bool constant = problem.constant_b;
  const int64_t M = args.M, N = args.N, batch = args.batch[0] * args.batch[1];
  MatmulOperand &a = args.a, &b = args.b;
  // An axis of one element has any stride.
  if (M == 1 && a.col != 1) a.row = 1;
  if (args.K == 1 && a.row != 1) a.col = 1;
  if (N == 1) b.col = 1;
  if (a.col == 1) {
    const bool copy = problem.tuning.copies_tall_aliasing_rows && M >= kTallRows &&
                      N >= kTallRows && a.row % 1024 == 0;
    args.a_layout = copy ? MatmulALayout::kCopyRows : MatmulALayout::kRows;
  } else if (a.row == 1) {
    args.a_layout = MatmulALayout::kColumns;
  } else {
    args.a_layout = MatmulALayout::kCopyRows;
  }
  const bool along_k = a.col == 1 && b.row == 1;
  const bool few_dots = b.col != 1 && M <= kDotRows && args.K >= 32 && !problem.rows_alone;
  if (along_k && (N == 1 || few_dots)) {
    args.b_layout = MatmulBLayout::kTransposed;
  } else if (constant && args.K * N >= kPackedSize) {
    args.b_layout = MatmulBLayout::kPacked;
  } else if (b.col == 1 && M < rows_to_copy(problem.tuning, args)) {
    args.b_layout = MatmulBLayout::kRows;
  } else if (constant || (batch == 1 && M >= kPackRows && N > width)) {
    args.b_layout = MatmulBLayout::kPacked;
  } else {
    args.b_layout = MatmulBLayout::kCopy;
  }
}

// Of A where every block reads copies.
void choose_copies_of_a(const MatmulNumbers& numbers, MatmulArgs& args) {
  if (args.a.col != 1 && args.K != 1) {
    args.a_layout = MatmulALayout::kCopyColumns;
  } else if (args.a.dtype == numbers.grouped && args.K % numbers.group == 0) {
    args.a_layout = MatmulALayout::kRows;
  } else {
    args.a_layout = MatmulALayout::kCopyRows;
  }
}

int64_t split_at(int64_t size, int64_t parts, int64_t part) {
  return part * (size / parts) + std::min(part, size % parts);
}

// A read down columns that are whole pages apart: each lands in the same sets of L1.
bool has_aliasing_columns(const MatmulArgs& args) {
  return args.a_layout == MatmulALayout::kColumns && args.a.col % 1024 == 0 && args.K >= 16;
}

// What blocks cost beside their multiplications, in units of one: of a vector by an element of A.
// Fitted to 34 shapes, each with some 28 grids, on two threads (bench/NOTES.md, ninth round).
constexpr double kCostOfA = 0.5;  // of an element of A, which comes from beyond L1 once a block
constexpr double kCostOfAliasingA = 1.5;
constexpr double kCostOfCopy = 40.0;    // of a vector of B that a block copies
constexpr double kCostOfPacked = 20.0;  // of a constant one, among all weights of a model
// A result of so many bytes leaves L2 from one chunk of K to the next, but for blocks of so many
// columns.
constexpr int64_t kLargeC = 2 << 20;
constexpr int64_t kColumnsOfLargeC = 256;
// Of a row of C that two threads share, which is a line of cache or, in a new result, a page.
constexpr double kCostOfSharedRow = 150.0;
constexpr double kCostOfPanel = 150.0;  // of its beginning

// The time of the slowest of `threads` threads when each takes an even share of the blocks, in
// order.
double slowest_thread(const MatmulArgs& args, const Shape& s, bool constant_b, int64_t blocks_m,
                      int64_t blocks_n, int64_t threads) {
  const double K = static_cast<double>(s.K);
  const double tile_rows = static_cast<double>(s.M) / static_cast<double>(s.row_tiles);
  const double a = has_aliasing_columns(args) ? kCostOfAliasingA : kCostOfA;
  const double packed = constant_b ? kCostOfPacked : 0.0;
  const double b = args.b_layout == MatmulBLayout::kCopy     ? kCostOfCopy
                   : args.b_layout == MatmulBLayout::kPacked ? packed
                                                             : 0.0;
  const double shared = blocks_n > 1 ? kCostOfSharedRow / K : 0.0;
  double slowest = 0.0;
  for (int64_t thread = 0; thread < threads; ++thread) {
    const int64_t begin = split_at(blocks_m * blocks_n, threads, thread);
    const int64_t end = split_at(blocks_m * blocks_n, threads, thread + 1);
    double time = 0.0;
    for (int64_t j = begin / blocks_m; j * blocks_m < end; ++j) {
      const int64_t first = std::max(begin - j * blocks_m, int64_t{0});
      const int64_t last = std::min(end - j * blocks_m, blocks_m);
      const int64_t tiles =
          split_at(s.row_tiles, blocks_m, last) - split_at(s.row_tiles, blocks_m, first);
      const int64_t panel_begin = split_at(s.panels, blocks_n, j);
      const int64_t panel_end = split_at(s.panels, blocks_n, j + 1);
      const double rows = static_cast<double>(tiles) * tile_rows;
      const double vectors = static_cast<double>(split_at(s.vectors, s.panels, panel_end) -
                                                 split_at(s.vectors, s.panels, panel_begin));
      const double panels = static_cast<double>((last - first) * (panel_end - panel_begin));
      time += rows * (vectors + a + shared) + b * vectors + kCostOfPanel / K * panels;
    }
    slowest = std::max(slowest, time);
  }
  return slowest;
}

// The parts of N, up to `most`, of which no thread gets much more than its share: whole panels do
// not divide evenly by any number, and 12 of them in 8 blocks are 8 for one of two threads.
int64_t even_columns(const MatmulArgs& args, const Shape& s, bool constant_b, int64_t most,
                     int64_t least) {
  int64_t found = most;
  double best = std::numeric_limits<double>::infinity();
  for (int64_t blocks_n = most; blocks_n >= std::max(least, most / 2 + 1); --blocks_n) {
    const double time = slowest_thread(args, s, constant_b, 1, blocks_n, num_threads());
    if (time < best) {
      best = time;
      found = blocks_n;
    }
  }
  return found;
}

// Cuts rows x columns of tiles into up to `wanted` blocks that read in place or share copies, for
// as many threads as there are now; with others results are the same.
void choose_grid(MatmulArgs& args, const Shape& s, bool constant_b, int64_t wanted,
                 int64_t min_blocks_m, int64_t max_blocks_n) {
  int64_t max_blocks_m = s.row_tiles;
  // A column of A is one run of memory: keep it longer than a few cache lines.
  if (args.a_layout == MatmulALayout::kColumns) max_blocks_m = std::max<int64_t>(1, s.M / 64);
  if (args.b_layout == MatmulBLayout::kCopy && args.K / args.slices > kKeptPanel) {
    max_blocks_m = std::min(max_blocks_m, min_blocks_m);
  }
  const int64_t least = std::min(s.row_tiles, min_blocks_m);
  args.blocks_m = least;
  args.blocks_n = 1;
  if (wanted == 1) return;
  const bool reads_once = s.row_tiles == 1 && args.b_layout != MatmulBLayout::kTransposed &&
                          args.b_layout != MatmulBLayout::kCopy;
  if (reads_once) {  // B, by as many parts as may be
    args.blocks_n = even_columns(args, s, constant_b, std::min(max_blocks_n, wanted), 1);
    return;
  }
  const bool is_large = args.chunks > args.slices && kWord * s.M * s.N > kLargeC;
  const int64_t least_n = is_large ? std::min(max_blocks_n, ceil_div(s.N, kColumnsOfLargeC)) : 1;
  const int64_t threads = std::clamp<int64_t>(num_threads(), 2, wanted);
  args.blocks_n = least_n;
  double best = slowest_thread(args, s, constant_b, least, least_n, threads);
  const int64_t most_n = std::max(least_n, std::min(max_blocks_n, wanted));
  for (int64_t blocks_n = least_n; blocks_n <= most_n; ++blocks_n) {
    const int64_t most = std::min(max_blocks_m, std::max(wanted / blocks_n, min_blocks_m));
    for (int64_t blocks_m = least; blocks_m <= most; ++blocks_m) {
      const double time = slowest_thread(args, s, constant_b, blocks_m, blocks_n, threads);
      if (time < best) {
        best = time;
        args.blocks_m = blocks_m;
        args.blocks_n = blocks_n;
      }
    }
  }
}

// Whether the blocks cut N alone, so that each copies its own part of B and nobody shares: where
// there are panels enough and A is the smaller operand. Gradients of weights (A read along its
// columns) cut M: their results are large, and whole rows of them are few pages.
bool cuts_columns(const MatmulArgs& args, const Shape& s, int64_t enough, int64_t groups) {
  const int64_t a_bytes = args.a_layout == MatmulALayout::kRows ? 0 : kWord * s.M * groups;
  return args.a_layout != MatmulALayout::kCopyColumns && s.panels >= enough &&
         s.M <= kMaxBlockRows && a_bytes <= std::min(kKeptBytes, kWord * s.N * groups);
}

// The same for blocks that copy what they read: B is packed for all of them, or each copies its
// part.
void choose_grid_of_copies(const MatmulProblem& problem, MatmulArgs& args, const Shape& s,
                           int64_t wanted) {
  const int64_t groups = ceil_div(s.groups, args.slices), b_bytes = kWord * s.N * groups;
  const int64_t enough = std::min(wanted, problem.numbers.enough_blocks);
  const bool by_columns = cuts_columns(args, s, enough, groups);
  const bool packs = problem.constant_b || (!by_columns && wanted > 1 && b_bytes > kSharedBytes);
  args.b_layout = packs ? MatmulBLayout::kPacked : MatmulBLayout::kCopy;
  const int64_t least_n = packs ? 1 : ceil_div(b_bytes, kKeptBytes);
  if (by_columns) {
    const int64_t most = std::min(std::max(wanted, least_n), s.panels);
    args.blocks_n = even_columns(args, s, problem.constant_b, most, least_n);
  } else {
    args.blocks_m = std::max(wanted, ceil_div(s.M, kMaxBlockRows));
    args.blocks_n = std::max(least_n, ceil_div(wanted, std::min(args.blocks_m, s.row_tiles)));
  }
  args.blocks_m = std::clamp<int64_t>(args.blocks_m, 1, s.row_tiles);
  args.blocks_n = std::clamp<int64_t>(args.blocks_n, 1, s.panels);
}

// Whether packing looks for blocks of zeros: in weights, read along their rows.
bool may_be_sparse(const MatmulProblem& problem, const MatmulArgs& args) {
  return problem.constant_b && args.b_layout == MatmulBLayout::kPacked && args.b.col == 1 &&
         args.K >= kLeastSparseK && args.K <= kMostSparseK &&
         ceil_div(args.K, args.chunks) <= kMostSparseChunk;
}

// Bytes of the copies of one block, and of its sums where they are copies too.
int64_t plan_scratch(const MatmulNumbers& numbers, MatmulArgs& args, const Shape& s, int width) {
  int64_t b = 0, a = 0;
  const int64_t rows =
      std::min(s.M, ceil_div(s.row_tiles, args.blocks_m) * int64_t{args.tile_rows});
  const int64_t chunk = std::max<int64_t>(1, ceil_div(s.groups, args.chunks));
  const int64_t panel = int64_t{args.panel_vectors} * width;
  if (args.b_layout == MatmulBLayout::kCopy) {
    b = chunk * panel;  // for the next panel, too, if no other block reads it
    if (args.blocks_m > 1) {
      b *= ceil_div(args.chunks, args.slices) * ceil_div(s.panels, args.blocks_n);
    }
  }
  if (args.a_layout == MatmulALayout::kCopyRows) a = rows * odd_lines(chunk);
  if (args.a_layout == MatmulALayout::kCopyColumns) a = chunk * odd_lines(rows);
  args.b_scratch = align_bytes(kWord * b);
  args.a_scratch = align_bytes(kWord * a);
  args.c_scratch = numbers.reads_in_place ? 0 : 2 * kWord * rows * panel;
  return args.b_scratch + args.a_scratch + args.c_scratch;
}

void plan_packing(const MatmulProblem& problem, const Shape& s, int width, MatmulPlan& plan) {
  const MatmulNumbers& numbers = problem.numbers;
  MatmulArgs& args = plan.matmul;
  MatmulPackArgs& pack = plan.pack;
  pack.finds_zeros = args.b_may_be_sparse;
  pack.chunks = pack.finds_zeros ? args.chunks : 1;
  const int64_t flags = pack.finds_zeros ? sparse_flag_words(s.panels) : 0;
  const int64_t words = s.groups * s.vectors * width + flags;
  pack.b = args.b;
  pack.K = s.K;
  pack.N = s.N;
  pack.panel_vectors = args.panel_vectors;
  // Broadcast axes of B are packed once.
  const bool outer = args.b.batch[0] != 0, inner = args.b.batch[1] != 0;
  pack.batch[0] = outer ? args.batch[0] : 1;
  pack.batch[1] = inner ? args.batch[1] : 1;
  pack.packed_batch[1] = inner ? words : 0;
  pack.packed_batch[0] = outer ? words * pack.batch[1] : 0;
  std::copy(pack.packed_batch, pack.packed_batch + 2, args.b.batch);
  // Blocks of rows of B as a whole, or of one panel of a transposed B.
  pack.blocks_n = pack.b.col == 1 ? ceil_div(s.panels, numbers.pack_panels) : s.panels;
  pack.blocks_k = std::clamp<int64_t>(words / pack.blocks_n / numbers.pack_words, 1,
                                      std::max<int64_t>(1, s.groups));
  if (pack.finds_zeros) {  // which takes whole panels
    pack.blocks_n = ceil_div(s.panels, kPanelsOfZeros);
    pack.blocks_k = 1;
  }
  const int64_t copies = pack.batch[0] * pack.batch[1];
  plan.packed_bytes = align_bytes(std::max<int64_t>(1, kWord * copies * words));
  plan.pack_blocks = copies * pack.blocks_n * pack.blocks_k;
}

void plan_combining(const Shape& s, MatmulPlan& plan) {
  const MatmulArgs& args = plan.matmul;
  MatmulCombineArgs& combine = plan.combine;
  plan.partial_bytes = align_bytes(kWord * args.slices * s.batch * s.M * s.N);
  combine.M = s.M;
  combine.N = s.N;
  combine.slices = args.slices;
  combine.epilogue = args.epilogue;
  combine.c_row = args.c_row;
  combine.c_dtype = args.c_dtype;
  for (int i = 0; i < 2; ++i) {
    combine.c_batch[i] = args.c_batch[i];
    combine.batch[i] = args.batch[i];
  }
  // A block sums about 16 K floats.
  const int64_t pieces = std::max<int64_t>(1, args.slices * s.M * s.N / 16384);
  combine.blocks_m = std::min(s.M, pieces);
  combine.blocks_n = std::min(s.vectors, ceil_div(pieces, combine.blocks_m));
  plan.combine_blocks = s.batch * combine.blocks_m * combine.blocks_n;
}

}  // namespace

MatmulPlan plan_matmul(const MatmulProblem& problem) {
  MatmulPlan plan{};
  plan.matmul = problem.args;
  MatmulArgs& args = plan.matmul;
  const MatmulNumbers& numbers = problem.numbers;
  const MatmulTile& tile = numbers.tile(problem.isa);
  const MatmulTuning& tuning = problem.tuning;
  const bool in_place = numbers.reads_in_place;
  args.blocks_m = args.blocks_n = args.slices = 1;
  args.rows_ahead = tuning.rows_ahead;
  args.fetches_in_place = tuning.fetches_in_place;
  args.fetches_next_panel = tuning.fetches_next_panel;

  Shape s{};
  s.M = args.M;
  s.N = args.N;
  s.batch = args.batch[0] * args.batch[1];
  s.K = args.K;
  s.groups = ceil_div(s.K, numbers.group);
  if (s.M == 0 || s.N == 0 || s.batch == 0) return plan;

  s.vectors = ceil_div(s.N, tile.width);
  const bool one_row_in_place = in_place && s.M == 1 && args.b.col == 1 &&
                                !(problem.constant_b && args.K * s.N >= kPackedSize);
  const Tiles cut = tiles_of(s, one_row_in_place ? tile.row_vectors : tile.vectors, tile);
  const bool taller =
      tile.few_rows > 0 && s.M > 1 && ceil_div(s.M, tile.few_rows) < ceil_div(s.M, cut.rows);
  const bool is_large = s.vectors > tile.vectors && s.K * s.N >= kLargeB;
  const int most_rows = is_large && !problem.updates ? tuning.few_rows_of_large : tuning.few_rows;
  // Not where B is packed once: one copy serves all numbers of rows.
  const bool few = taller && s.M <= most_rows && !problem.constant_b;
  const bool narrow = taller && tuning.tall_narrow && !problem.updates && s.vectors <= 2;
  args.panel_vectors = few ? tile.few_vectors : cut.vectors;
  args.tile_rows = few || narrow ? tile.few_rows : cut.rows;
  s.panels = ceil_div(s.vectors, args.panel_vectors);
  s.row_tiles = ceil_div(s.M, args.tile_rows);
  s.flop = 2.0 * static_cast<double>(s.M) * static_cast<double>(s.N) * static_cast<double>(s.K) *
           static_cast<double>(s.batch);

  args.chunks = tile.kc == 0 ? 1 : std::max<int64_t>(1, (args.K + tile.kc / 2) / tile.kc);
  if (in_place) {
    choose_layouts(problem, tile.width, args);
  } else {
    choose_copies_of_a(numbers, args);
  }

  const double cost = in_place && s.M == 1 ? kRowCost * s.flop : s.flop;
  int64_t wanted = ceil_div(wanted_blocks(cost, numbers.one_block_flop), s.batch);
  // One row reads B along its rows, so that these stay whole where K can be cut; dot products keep
  // K whole where N can be cut.
  const bool by_row =
      in_place && s.M == 1 && args.b_layout == MatmulBLayout::kRows && !problem.rows_alone;
  args.by_rows_of_b = by_row && args.b.row >= tuning.long_row;
  const bool by_dots = in_place && args.b_layout == MatmulBLayout::kTransposed;
  const bool own_slices = numbers.slice_k > 0;
  const int64_t tiles =
      own_slices ? ceil_div(s.M, numbers.slice_rows) * ceil_div(s.N, numbers.slice_columns)
                 : ceil_div(s.M, cut.rows) * ceil_div(s.vectors, cut.vectors);
  const int64_t most_slices = problem.rows_alone ? 1
                              : by_row           ? s.K / kRowSlice
                              : own_slices       ? s.K / numbers.slice_k
                                                 : args.chunks / 2;
  if (wanted > 1 && tiles < (by_dots ? 1 : 4) * wanted && most_slices > 1) {
    // A power of two: an even share for 2 and 4 threads.
    while (args.slices * 2 <= std::min(most_slices, wanted)) args.slices *= 2;
    const bool enough = args.slices * 2 > wanted || args.slices >= numbers.enough_blocks;
    wanted = enough ? 1 : ceil_div(wanted, args.slices);
    if (by_row) args.chunks = args.slices * ceil_div(args.chunks, args.slices);
  }
  if (tile.kc == 0) args.chunks = args.slices;
  if (in_place) {
    const int64_t block_rows = s.M >= kTallRows ? tuning.tall_block_rows : tuning.block_rows;
    // A gradient in several chunks is updated by a launch of its own, and cut as others are.
    const bool updates = problem.updates && args.chunks == 1;
    const int64_t most = updates && tuning.update_columns > 0
                             ? std::clamp<int64_t>(s.N / tuning.update_columns, 1, s.panels)
                             : s.panels;
    const bool by_rows = problem.constant_b && args.b_layout == MatmulBLayout::kPacked &&
                         s.row_tiles >= wanted && kWord * s.K * s.N <= kRowsOfSmallB;
    choose_grid(args, s, problem.constant_b, wanted, ceil_div(s.M, block_rows), by_rows ? 1 : most);
    // Neighbours are joined: no need for few.
    if (by_rows && args.blocks_m > 1 && s.row_tiles <= kFineTiles) args.blocks_m = s.row_tiles;
    // The copy pays once three panels use it.
    if (has_aliasing_columns(args) && s.panels >= 3 * args.blocks_n) {
      args.a_layout = MatmulALayout::kCopyColumns;
    }
  } else {
    choose_grid_of_copies(problem, args, s, wanted);
  }

  args.b_may_be_sparse = in_place && may_be_sparse(problem, args);
  if (args.b_layout == MatmulBLayout::kPacked) plan_packing(problem, s, tile.width, plan);
  plan.blocks = s.batch * args.slices * args.blocks_n * args.blocks_m;
  plan.scratch_bytes = plan_scratch(numbers, args, s, tile.width);
  if (args.slices > 1) {
    plan_combining(s, plan);
    if (!in_place) plan.combine_scratch_bytes = 2 * kWord * s.N;
  }
  return plan;
}

}  // namespace handmill
