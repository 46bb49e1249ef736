// The memory of one running call of a plan, and the pool in which it waits for the next.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/binding.h"
#include "core/held_bytes.h"
#include "core/plan.h"

namespace handmill {

struct Plan::Instance {
  Buffer arena, blob;
  Buffer scratch;                 // of all threads
  Buffer fed;                     // inputs and outputs of run_fed
  std::vector<std::byte*> bases;  // of each slot
  std::vector<GuardResult> guards;
  const Binding* binding = nullptr;  // of the call that runs, null in the pool
  uint64_t resolved_for = 0;         // id of the binding that the variables' bases belong to, or 0
  std::vector<std::shared_ptr<Packed>> packed;  // of each pack launch
  std::vector<bool> packs_variable;             // of each, whether it reads a variable
  uint64_t kept_for = 0;  // sum of the versions that kept results were computed from, and 1; or 0
  HeldBytes held;

  /// Makes scratch large enough for so many threads.
  void reserve_scratch(int threads, int64_t bytes_each) {
    const int64_t bytes = threads * align_up(bytes_each);
    if (scratch.size() >= bytes) return;
    scratch = Buffer(bytes);
    count();
  }

  /// To be called when buffers have grown.
  void count() { held.set(arena.taken() + blob.taken() + scratch.taken() + fed.taken()); }

  /// Forgets the variables and lets go of the copies of them.
  void forget_states();
};

/// The instances of a plan that nobody uses.
class InstancePool {
 public:
  /// An instance for that binding, the one that it used last if it is there; null: make one.
  std::unique_ptr<Plan::Instance> take(uint64_t binding);
  void give_back(std::unique_ptr<Plan::Instance> instance);

  /// The binding ends: no instance holds memory of its states any more.
  void forget(uint64_t binding);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Plan::Instance>> idle_;  // the latest used last
};

}  // namespace handmill
