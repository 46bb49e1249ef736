#include "core/dims.h"

#include "core/check.h"

namespace handmill {
namespace {

constexpr int kMaxDepth = 64;

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b < 0 ? quotient - 1 : quotient;
}

}  // namespace

DimExpressions::DimExpressions(int num_symbols, const std::vector<std::vector<int64_t>>& codes)
    : num_symbols_(num_symbols) {
  require(num_symbols >= 0, "the number of symbols must not be negative");
  for (const std::vector<int64_t>& code : codes) {
    int depth = 0;
    for (size_t at = 0; at < code.size(); ++at) {
      require(code[at] >= 0 && code[at] <= static_cast<int64_t>(Code::floor_divide),
              "expression: there is no code ", code[at]);
      const Code what = static_cast<Code>(code[at]);
      if (what == Code::push || what == Code::symbol) {
        require(++at < code.size() && ++depth <= kMaxDepth, "expression: too short or too deep");
        require(what == Code::push || (code[at] >= 0 && code[at] < num_symbols),
                "expression: there is no symbol ", code[at]);
        continue;
      }
      require(--depth >= 1, "expression: an operand is missing");
      require(what != Code::floor_divide ||
                  (at >= 2 && code[at - 1] > 0 && code[at - 2] == static_cast<int64_t>(Code::push)),
              "expression: a divisor must be a positive number");
    }
    require(depth == 1, "expression: exactly one number must be left");
    code_.insert(code_.end(), code.begin(), code.end());
    first_.push_back(static_cast<uint32_t>(code_.size()));
  }
}

std::vector<int64_t> DimExpressions::evaluate(std::span<const int64_t> sizes) const {
  require(static_cast<int>(sizes.size()) == num_symbols_, "the program takes ", num_symbols_,
          " sizes, got ", sizes.size());
  for (int64_t size : sizes) require(size >= 0, "a size must not be negative, got ", size);
  std::vector<int64_t> values;
  values.reserve(static_cast<size_t>(count()));
  int64_t stack[kMaxDepth] = {};
  for (size_t i = 0; i + 1 < first_.size(); ++i) {
    int depth = 0;
    for (uint32_t at = first_[i]; at < first_[i + 1]; ++at) {
      const Code what = static_cast<Code>(code_[at]);
      if (what == Code::push) {
        stack[depth++] = code_[++at];
      } else if (what == Code::symbol) {
        stack[depth++] = sizes[static_cast<size_t>(code_[++at])];
      } else {
        const int64_t b = stack[--depth];
        int64_t& a = stack[depth - 1];
        const bool overflows = what == Code::add        ? __builtin_add_overflow(a, b, &a)
                               : what == Code::multiply ? __builtin_mul_overflow(a, b, &a)
                                                        : false;
        require(!overflows, "sizes are too large: a dimension does not fit 64 bits");
        if (what == Code::floor_divide) a = floor_divide(a, b);
      }
    }
    values.push_back(stack[0]);
  }
  return values;
}

}  // namespace handmill
