// Dimensions that depend on the sizes of a call: expressions over the symbols of a program.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace handmill {

/// Expressions in postfix form, with the operands after PUSH (a number) and SYMBOL (which one).
class DimExpressions {
 public:
  enum class Code : int64_t { push, symbol, add, multiply, floor_divide };

  DimExpressions() = default;

  /// Throws std::invalid_argument where a code is none, or does not leave exactly one number.
  DimExpressions(int num_symbols, const std::vector<std::vector<int64_t>>& codes);

  int num_symbols() const { return num_symbols_; }
  int count() const { return static_cast<int>(first_.size()) - 1; }

  /// The value of every expression. Throws std::invalid_argument where a size is negative, their
  /// number is another one, or a value does not fit 64 bits.
  std::vector<int64_t> evaluate(std::span<const int64_t> sizes) const;

 private:
  int num_symbols_ = 0;
  std::vector<int64_t> code_;
  std::vector<uint32_t> first_ = {0};  // of each expression, and the end
};

}  // namespace handmill
