// Rearranged copies of variables and constants, as matrix products want them: one copy for all
// plans and calls that ask for the same.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/held_bytes.h"

namespace handmill {

/// A copy of the contents that had that version.
struct Packed {
  explicit Packed(int64_t bytes) : memory(bytes), held(memory.taken()) {}

  Buffer memory;
  HeldBytes held;
  uint64_t version = 0;
};

/// The copies of one variable or constant. A copy lives as long as somebody holds it.
class PackedCopies {
 public:
  using Pack = std::function<void(std::byte* memory)>;

  /// Makes `held`, a copy under the same key or null, one of that version. `key` says how the copy
  /// is arranged. Where nobody has one of the version, `pack` writes it, over an older copy that no
  /// other caller holds or into new memory. Thread-safe.
  void update(std::shared_ptr<Packed>& held, const std::string& key, int64_t bytes,
              uint64_t version, const Pack& pack);

 private:
  std::vector<std::pair<std::string, std::weak_ptr<Packed>>> copies_;
};

}  // namespace handmill
