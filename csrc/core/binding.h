// Which States stand behind the variables of a program.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/program.h"
#include "core/state.h"

namespace handmill {

class InstancePool;

/// One State for each variable of a program, in its order. Many bindings may run one plan at the
/// same time; they share nothing but what the plan knows.
class Binding {
 public:
  /// Throws std::invalid_argument if a state is missing or given twice.
  explicit Binding(std::vector<std::shared_ptr<State>> states);
  ~Binding();
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;

  /// Of no other binding in this process, and never 0.
  uint64_t id() const { return id_; }
  size_t size() const { return states_.size(); }
  State& state(size_t variable) const { return *states_[variable]; }
  State& state(int variable) const { return state(static_cast<size_t>(variable)); }

  /// Throws std::invalid_argument unless the states have the shapes and dtypes of the variables.
  void check(const Program& program) const;

  /// The pool has an instance that holds memory of the states; it lets go when the binding ends.
  void note(const std::shared_ptr<InstancePool>& pool) const;

 private:
  std::vector<std::shared_ptr<State>> states_;
  uint64_t id_;
  mutable std::mutex mutex_;
  mutable std::vector<std::weak_ptr<InstancePool>> pools_;
};

}  // namespace handmill
