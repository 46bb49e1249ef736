// Tile programs: chains of elementwise operations, run one tile of elements at a time so that what
// lies between two operations never leaves L1. Contract: TileArgs.
//
// A tile is a piece of one row of the iteration space, or, where rows are shorter than a tile, as
// many whole rows as fit. Operands whose tiles are contiguous and of their register's type are
// worked on in place; the others go through tile buffers in scratch, which are filled once per call
// where every tile would read the same (scalars, row vectors under short rows).
#include "kernels/cast/convert.h"
#include "kernels/elementwise/args.h"
#include "kernels/elementwise/lane_ops.h"
#include "kernels/lanes.h"
#include "simd/activations.h"
#include "simd/angles.h"

namespace handmill::HM_ISA {
namespace {

// --- Operations on float32, in the order of tile_ops.def ---

namespace tile_ops {

HM_INLINE Vec ones_where(Mask m) { return select(m, Vec::broadcast(1.0f), Vec::zero()); }
HM_INLINE Mask is_true(Vec a) { return a != Vec::zero(); }

Vec copy(Vec a) { return a; }
// The nearest bfloat16, ties to even; NaN stays a (quiet) NaN.
Vec round_bf16(Vec a) {
  const VecI bits = as_int(a);
  const VecI odd = shift_right_logical<16>(bits) & VecI::broadcast(1);
  const VecI rounded = bits + VecI::broadcast(0x7fff) + odd;
  const VecI quiet_nan = bits | VecI::broadcast(0x400000);
  return as_float(select(is_nan(a), quiet_nan, rounded) & VecI::broadcast(-65536));
}
Vec add(Vec a, Vec b) { return a + b; }
Vec sub(Vec a, Vec b) { return a - b; }
Vec mul(Vec a, Vec b) { return a * b; }
Vec div(Vec a, Vec b) { return a / b; }
Vec maximum(Vec a, Vec b) { return max(a, b); }
Vec minimum(Vec a, Vec b) { return min(a, b); }
using HM_ISA::clip;
using HM_ISA::pow;
Vec neg(Vec a) { return -a; }
using HM_ISA::abs;
// The sum turns -0 into 0 and keeps NaN.
Vec sign(Vec a) {
  const Vec one = Vec::broadcast(1.0f);
  return select(a > Vec::zero(), one, select(a < Vec::zero(), -one, a + Vec::zero()));
}
Vec square(Vec a) { return a * a; }
Vec reciprocal(Vec a) { return Vec::broadcast(1.0f) / a; }
using HM_ISA::arccos;
using HM_ISA::arccosh;
using HM_ISA::arcsin;
using HM_ISA::arcsinh;
using HM_ISA::arctan;
using HM_ISA::arctan2;
using HM_ISA::arctanh;
using HM_ISA::ceil;
using HM_ISA::cos;
using HM_ISA::cosh;
using HM_ISA::erf;
using HM_ISA::exp;
using HM_ISA::exp2;
using HM_ISA::expm1;
using HM_ISA::floor;
using HM_ISA::log;
using HM_ISA::log1p;
using HM_ISA::rsqrt;
using HM_ISA::sigmoid;
using HM_ISA::sin;
using HM_ISA::sinh;
using HM_ISA::sqrt;
using HM_ISA::tanh;
Vec round(Vec a) { return round_nearest(a); }
Vec trunc(Vec a) { return select(a < Vec::zero(), ceil(a), floor(a)); }
using HM_ISA::elu;
using HM_ISA::gelu;
using HM_ISA::gelu_tanh;
using HM_ISA::hard_sigmoid;
using HM_ISA::hard_silu;
using HM_ISA::leaky_relu;
using HM_ISA::mish;
using HM_ISA::relu;
using HM_ISA::relu6;
using HM_ISA::selu;
using HM_ISA::silu;
using HM_ISA::softplus;
using HM_ISA::softsign;
Vec equal(Vec a, Vec b) { return ones_where(a == b); }
Vec not_equal(Vec a, Vec b) { return ones_where(a != b); }
Vec less(Vec a, Vec b) { return ones_where(a < b); }
Vec less_equal(Vec a, Vec b) { return ones_where(a <= b); }
Vec greater(Vec a, Vec b) { return ones_where(a > b); }
Vec greater_equal(Vec a, Vec b) { return ones_where(a >= b); }
Vec logical_and(Vec a, Vec b) { return ones_where(is_true(a) & is_true(b)); }
Vec logical_or(Vec a, Vec b) { return ones_where(is_true(a) | is_true(b)); }
Vec logical_not(Vec a) { return ones_where(a == Vec::zero()); }
Vec isfinite(Vec a) { return ones_where(abs(a) < Vec::broadcast(__builtin_inff())); }
Vec isnan(Vec a) { return ones_where(is_nan(a)); }
Vec isinf(Vec a) { return ones_where(abs(a) == Vec::broadcast(__builtin_inff())); }
Vec where(Vec condition, Vec a, Vec b) { return select(is_true(condition), a, b); }
using HM_ISA::elu_grad;
using HM_ISA::gelu_grad;
using HM_ISA::gelu_tanh_grad;
using HM_ISA::hard_sigmoid_grad;
using HM_ISA::hard_silu_grad;
using HM_ISA::leaky_relu_grad;
using HM_ISA::mish_grad;
using HM_ISA::relu6_grad;
using HM_ISA::relu_grad;
using HM_ISA::selu_grad;
using HM_ISA::sigmoid_grad;
using HM_ISA::silu_grad;
using HM_ISA::softplus_grad;
using HM_ISA::softsign_grad;
using HM_ISA::tanh_grad;
Vec truth(Vec a) { return ones_where(is_true(a)); }
Vec clip_grad(Vec dy, Vec x, Vec low, Vec high) {
  return select((low <= x) & (x <= high), dy, Vec::zero());
}

}  // namespace tile_ops

using TileFunction = void (*)(void* dst, const void* a, const void* b, const void* c, double imm0,
                              double imm1, int64_t n);

// dst[i] = kOp(a[i], b[i], c[i], imm0, imm1), with as many operands and immediates as kOp takes.
template <auto kOp, int kInputs, int kImmediates>
void run_op(void* erased, const void* a, const void* b, const void* c, double imm0, double imm1,
            int64_t n) {
  const Vec u = Vec::broadcast(static_cast<float>(imm0));
  const Vec v = Vec::broadcast(static_cast<float>(imm1));
  float* dst = static_cast<float*>(erased);
  const auto apply = [&](auto load) {
    if constexpr (kInputs == 1 && kImmediates == 0) return kOp(load(a));
    if constexpr (kInputs == 1 && kImmediates == 1) return kOp(load(a), u);
    if constexpr (kInputs == 1 && kImmediates == 2) return kOp(load(a), u, v);
    if constexpr (kInputs == 2 && kImmediates == 0) return kOp(load(a), load(b));
    if constexpr (kInputs == 2 && kImmediates == 1) return kOp(load(a), load(b), u);
    if constexpr (kInputs == 2 && kImmediates == 2) return kOp(load(a), load(b), u, v);
    if constexpr (kInputs == 3) return kOp(load(a), load(b), load(c));
  };
  int64_t i = 0;
  for (; i + Vec::width <= n; i += Vec::width) {
    apply([i](const void* p) {
      return Vec::load(static_cast<const float*>(p) + i);
    }).store(dst + i);
  }
  if (i < n) {
    apply([i, n](const void* p) {
      return Vec::load_n(static_cast<const float*>(p) + i, n - i);
    }).store_n(dst + i, n - i);
  }
}

// The same for another type, one element at a time: the compiler makes vectors of it.
template <class T, auto kOp, int kInputs, int kImmediates>
void run_lanes(void* erased, const void* erased_a, const void* erased_b, const void* erased_c,
               double imm0, double imm1, int64_t n) {
  const T* a = static_cast<const T*>(erased_a);
  const T* b = static_cast<const T*>(erased_b);
  const T* c = static_cast<const T*>(erased_c);
  const T u = static_cast<T>(imm0), v = static_cast<T>(imm1);
  const auto apply = [&](int64_t i) {
    if constexpr (kInputs == 1 && kImmediates == 0) return kOp(a[i]);
    if constexpr (kInputs == 1 && kImmediates == 1) return kOp(a[i], u);
    if constexpr (kInputs == 1 && kImmediates == 2) return kOp(a[i], u, v);
    if constexpr (kInputs == 2 && kImmediates == 0) return kOp(a[i], b[i]);
    if constexpr (kInputs == 2 && kImmediates == 1) return kOp(a[i], b[i], u);
    if constexpr (kInputs == 2 && kImmediates == 2) return kOp(a[i], b[i], u, v);
    if constexpr (kInputs == 3) return kOp(a[i], b[i], c[i]);
  };
  auto* dst = static_cast<decltype(apply(0))*>(erased);
#pragma GCC ivdep  // dst is an operand or apart from it
  for (int64_t i = 0; i < n; ++i) dst[i] = apply(i);
}

// A function for each type, null where the operation does not compute in it.
constexpr TileFunction kTileFunctions[][kTileTypes] = {
#define HM_FLOATS(name, i, m) run_op<tile_ops::name, i, m>
#define HM_LANES(T, name, i, m) run_lanes<T, lane_ops::name<T>, i, m>
#define HM_ROW_F(name, i, m) {HM_FLOATS(name, i, m), nullptr, nullptr, nullptr},
#define HM_ROW_FD(name, i, m) \
  {HM_FLOATS(name, i, m), HM_LANES(double, name, i, m), nullptr, nullptr},
#define HM_ROW_FI(name, i, m) \
  {HM_FLOATS(name, i, m), nullptr, HM_LANES(int32_t, name, i, m), HM_LANES(int64_t, name, i, m)},
#define HM_ROW_FDI(name, i, m)                                                         \
  {HM_FLOATS(name, i, m), HM_LANES(double, name, i, m), HM_LANES(int32_t, name, i, m), \
   HM_LANES(int64_t, name, i, m)},
#define HM_ROW_I(name, i, m) \
  {nullptr, nullptr, HM_LANES(int32_t, name, i, m), HM_LANES(int64_t, name, i, m)},
#define HM_TILE_OP(name, inputs, immediates, types) HM_ROW_##types(name, inputs, immediates)
#define HM_TILE_CONVERSION(name, type)                                                       \
  {HM_LANES(float, name, 1, 0), HM_LANES(double, name, 1, 0), HM_LANES(int32_t, name, 1, 0), \
   HM_LANES(int64_t, name, 1, 0)},
#include "kernels/elementwise/tile_ops.def"
#undef HM_TILE_OP
#undef HM_FLOATS
#undef HM_LANES
#undef HM_ROW_F
#undef HM_ROW_FD
#undef HM_ROW_FI
#undef HM_ROW_FDI
#undef HM_ROW_I
};

// --- Tiles ---

// Where a tile starts, and its extent: `rows` whole rows, or a piece of one row.
struct Tile {
  int64_t flat;  // position in the flattened iteration space
  int64_t row[3], col;
  int64_t rows, cols;
};

enum class Access : uint8_t {
  kInPlace,   // contiguous and of the register's type in every tile
  kFixed,     // an input with the same content in every tile: buffered once
  kBuffered,  // through a tile buffer
};

struct OperandState {
  Access access;
  bool is_flat;  // its elements lie in the order of the iteration space, without gaps
  char* buffer;
};

// Whether elements of dtype T may travel as `Lane`.
template <class T, class Lane>
constexpr bool kTravels = false;
template <class T>
constexpr bool kTravels<T, T> = true;
template <class Lane>
constexpr bool kTravels<Bool, Lane> = true;
template <>
constexpr bool kTravels<Bfloat16, float> = true;
template <>
constexpr bool kTravels<int8_t, int32_t> = true;
template <>
constexpr bool kTravels<uint8_t, int32_t> = true;

// f(ElementType<T>{}, ElementType<Lane>{}) with the element type and the register type of an
// operand.
template <class F>
HM_INLINE void with_types(const TileOperand& o, F f) {
  const auto with_lane = [&]<class Lane>(ElementType<Lane>) {
    with_element_type(o.dtype, [&]<class T>(ElementType<T>) {
      if constexpr (kTravels<T, Lane>) f(ElementType<T>{}, ElementType<Lane>{});
    });
  };
  switch (o.type) {
    case TileType::f32:
      return with_lane(ElementType<float>{});
    case TileType::f64:
      return with_lane(ElementType<double>{});
    case TileType::i32:
      return with_lane(ElementType<int32_t>{});
    case TileType::i64:
      return with_lane(ElementType<int64_t>{});
  }
}

constexpr bool is_own_type(Dtype dtype, TileType type) {
  return (dtype == Dtype::float32 && type == TileType::f32) ||
         (dtype == Dtype::float64 && type == TileType::f64) ||
         (dtype == Dtype::int32 && type == TileType::i32) ||
         (dtype == Dtype::int64 && type == TileType::i64);
}

int64_t offset_of(const TileOperand& o, const Tile& t) {
  return t.row[0] * o.strides[0] + t.row[1] * o.strides[1] + t.row[2] * o.strides[2] +
         t.col * o.strides[3];
}

// f(address, buffer, stride, count) for every row of the tile, or once if the tile is flat memory.
template <class T, class Lane, class F>
HM_INLINE void for_each_row(const TileArgs& a, const TileOperand& o, const OperandState& state,
                            const Tile& t, F f) {
  T* base = static_cast<T*>(o.ptr);
  Lane* buffer = reinterpret_cast<Lane*>(state.buffer);
  if (state.is_flat) return f(base + t.flat, buffer, int64_t{1}, t.rows * t.cols);
  int64_t row[3] = {t.row[0], t.row[1], t.row[2]};
  T* p = base + offset_of(o, t);
  for (int64_t r = 0; r < t.rows; ++r) {
    f(p, buffer + r * t.cols, o.strides[3], t.cols);
    p += o.strides[2];
    if (++row[2] < a.dims[2]) continue;
    row[2] = 0;
    if (++row[1] == a.dims[1]) {
      row[1] = 0;
      ++row[0];
    }
    p = base + row[0] * o.strides[0] + row[1] * o.strides[1];
  }
}

void read_tile(const TileArgs& a, const TileOperand& o, const OperandState& state, const Tile& t) {
  with_types(o, [&]<class T, class Lane>(ElementType<T>, ElementType<Lane>) {
    const auto read_row = [](const T* x, Lane* y, int64_t stride, int64_t n) {
      if (stride == 1) {
        for (int64_t i = 0; i < n; ++i) y[i] = ConvertTo<Lane>::from(x[i]);
      } else if (stride == 0) {
        const Lane value = ConvertTo<Lane>::from(*x);
        for (int64_t i = 0; i < n; ++i) y[i] = value;
      } else {
        for (int64_t i = 0; i < n; ++i) y[i] = ConvertTo<Lane>::from(x[i * stride]);
      }
    };
    for_each_row<const T, Lane>(a, o, state, t, read_row);
  });
}

void write_tile(const TileArgs& a, const TileOperand& o, const OperandState& state, const Tile& t) {
  with_types(o, [&]<class T, class Lane>(ElementType<T>, ElementType<Lane>) {
    const auto write_row = [](T* y, const Lane* x, int64_t stride, int64_t n) {
      if (stride == 1) {
        for (int64_t i = 0; i < n; ++i) y[i] = ConvertTo<T>::from(x[i]);
      } else {
        for (int64_t i = 0; i < n; ++i) y[i * stride] = ConvertTo<T>::from(x[i]);
      }
    };
    for_each_row<T, Lane>(a, o, state, t, write_row);
  });
}

OperandState classify(const TileArgs& a, const TileOperand& o, bool is_input) {
  int64_t dense = 1;
  bool is_flat = true, repeats_rows = true;
  for (int d = 3; d >= 0; --d) {
    if (a.dims[d] > 1) {
      is_flat &= o.strides[d] == dense;
      repeats_rows &= d == 3 || o.strides[d] == 0;
    }
    dense *= a.dims[d];
  }
  const bool whole_rows = a.dims[3] < kTileElements;
  const bool contiguous = is_flat || (!whole_rows && o.strides[3] == 1);
  Access access = Access::kBuffered;
  if (is_own_type(o.dtype, o.type) && contiguous) {
    access = Access::kInPlace;
  } else if (is_input && repeats_rows && (whole_rows || o.strides[3] == 0)) {
    access = Access::kFixed;
  }
  return {access, is_flat, nullptr};
}

// Elements of a space whose operands lie beyond L2.
constexpr int64_t kFarElements = 128 * 1024;

// Fetches what the next tile writes into L2: otherwise each of its lines waits for memory. What it
// reads the processor foresees.
HM_INLINE void fetch_for_writing(const char* from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(from + i, 1, 2);
}

// Runs the program; after_tile(registers, col, n) sees the registers of each tile, whose n elements
// begin in column `col` of a row.
template <class F>
HM_INLINE void run_tiles(const TileArgs& a, Range blocks, void* scratch, F after_tile) {
  const int64_t cols = a.dims[3];
  const int64_t total = a.dims[0] * a.dims[1] * a.dims[2] * cols;
  const int64_t begin = blocks.begin * a.block;
  const int64_t end = blocks.end * a.block < total ? blocks.end * a.block : total;
  if (begin >= end) return;

  const bool is_far = total >= kFarElements;
  const bool whole_rows = cols < kTileElements;
  const int64_t rows_per_tile = whole_rows ? kTileElements / cols : 1;
  const int64_t elements_per_tile = whole_rows ? rows_per_tile * cols : kTileElements;

  const int64_t buffer_bytes = kTileBufferStride * a.element_bytes;
  char* buffer = static_cast<char*>(scratch);
  char* registers[kMaxTileOperands + kMaxTileTemps];
  OperandState states[kMaxTileOperands];
  const int n_operands = a.n_inputs + a.n_outputs;
  for (int i = 0; i < n_operands; ++i) {
    states[i] = classify(a, a.operands[i], i < a.n_inputs);
    if (states[i].access == Access::kInPlace) continue;
    registers[i] = states[i].buffer = buffer;
    buffer += buffer_bytes;
    if (states[i].access == Access::kFixed) {
      const int64_t n = end - begin < elements_per_tile ? end - begin : elements_per_tile;
      const Tile first = {0, {0, 0, 0}, 0, whole_rows ? n / cols : 1, whole_rows ? cols : n};
      read_tile(a, a.operands[i], states[i], first);
    }
  }
  for (int i = 0; i < a.n_temps; ++i) {
    registers[n_operands + i] = buffer;
    buffer += buffer_bytes;
  }

  for (int64_t flat = begin; flat < end;) {
    const int64_t row = flat / cols, col = flat - row * cols;
    int64_t n = end - flat < elements_per_tile ? end - flat : elements_per_tile;
    if (!whole_rows && cols - col < n) n = cols - col;
    const int64_t outer = row / a.dims[2];
    const Tile tile = {flat,
                       {outer / a.dims[1], outer % a.dims[1], row % a.dims[2]},
                       col,
                       whole_rows ? n / cols : 1,
                       whole_rows ? cols : n};
    for (int i = 0; i < n_operands; ++i) {
      const TileOperand& operand = a.operands[i];
      if (states[i].access == Access::kInPlace) {
        const int64_t offset = states[i].is_flat ? flat : offset_of(operand, tile);
        const int64_t bytes = tile_type_bytes(operand.type);
        registers[i] = static_cast<char*>(operand.ptr) + offset * bytes;
        if (i >= a.n_inputs && is_far && states[i].is_flat && flat + 2 * n <= end) {
          fetch_for_writing(registers[i] + n * bytes, n * bytes);
        }
      } else if (states[i].access == Access::kBuffered && i < a.n_inputs) {
        read_tile(a, operand, states[i], tile);
      }
    }
    for (int i = 0; i < a.n_instrs; ++i) {
      const TileInstr& instr = a.instrs[i];
      const TileFunction function =
          kTileFunctions[static_cast<int>(instr.op)][static_cast<int>(instr.type)];
      function(registers[instr.dst], registers[instr.a], registers[instr.b], registers[instr.c],
               instr.imm0, instr.imm1, n);
    }
    for (int i = a.n_inputs; i < n_operands; ++i) {
      if (states[i].access == Access::kBuffered) write_tile(a, a.operands[i], states[i], tile);
    }
    after_tile(registers, col, n);
    flat += n;
  }
}

// sums[j] += the sum of x[m * N + j] over `rows` rows, for kVectors vectors of columns.
template <int kVectors, class Lanes>
HM_INLINE void add_strip(const float* x, int64_t rows, int64_t N, float* sums, Lanes lanes) {
  Vec sum[kVectors];
  for (Vec& s : sum) s = Vec::zero();
  for (int64_t m = 0; m < rows; ++m) {
    for (int j = 0; j < kVectors; ++j) sum[j] = sum[j] + lanes.load(x + m * N + j * Vec::width);
  }
  for (int j = 0; j < kVectors; ++j) {
    float* total = sums + j * Vec::width;
    lanes.store(lanes.load(total) + sum[j], total);
  }
}

// sums[i mod N] += x[i]
void add_to_columns(const float* x, int64_t n, int64_t N, float* sums) {
  const int64_t rows = n / N, rest = n - rows * N;
  if (rows > 0) {
    int64_t i = 0;
    for (; i + 4 * Vec::width <= N; i += 4 * Vec::width) {
      add_strip<4>(x + i, rows, N, sums + i, AllLanes{});
    }
    for_each_vector(
        i, N, [&](int64_t at, auto lanes) { add_strip<1>(x + at, rows, N, sums + at, lanes); });
  }
  for_each_vector(0, rest, [&](int64_t at, auto lanes) {
    add_strip<1>(x + rows * N + at, 1, N, sums + at, lanes);
  });
}

}  // namespace

void tile_program(const TileArgs& a, Range blocks, void* scratch) {
  run_tiles(a, blocks, scratch, [](char**, int64_t, int64_t) {});
}

void tile_sums(const TileSumsArgs& a, Range blocks, void* scratch) {
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    for (int s = 0; s < a.n_sums; ++s) {
      float* sums = a.sums[s] + block * a.N;
      for (int64_t i = 0; i < a.N; ++i) sums[i] = 0.0f;
    }
    run_tiles(a.tile, {block, block + 1}, scratch, [&](char** registers, int64_t col, int64_t n) {
      for (int s = 0; s < a.n_sums; ++s) {
        const float* x = reinterpret_cast<const float*>(registers[a.registers[s]]);
        add_to_columns(x, n, a.N, a.sums[s] + block * a.N + col % a.N);
      }
    });
  }
}

}  // namespace handmill::HM_ISA
