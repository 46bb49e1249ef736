// The memory of one running call of a plan.
#pragma once

#include <memory>
#include <vector>

#include "core/plan.h"

namespace handmill {

struct Plan::Instance {
  Buffer arena, blob;
  Buffer scratch;                 // of all threads
  Buffer fed;                     // inputs and outputs of run_fed
  std::vector<std::byte*> bases;  // of each slot
  std::vector<GuardResult> guards;
  std::vector<std::shared_ptr<Buffer>> storages;  // keep what the variables' bases point to
  uint64_t epoch = ~uint64_t{0};
  std::vector<std::shared_ptr<Packed>> packed;  // of each pack step

  /// Makes scratch large enough for so many threads.
  void reserve_scratch(int threads, int64_t bytes_each) {
    const int64_t bytes = threads * align_up(bytes_each);
    if (scratch.size() < bytes) scratch = Buffer(bytes);
  }
};

}  // namespace handmill
