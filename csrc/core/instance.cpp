#include "core/instance.h"

#include <algorithm>
#include <utility>

namespace handmill {
namespace {

constexpr size_t kMaxPooled = 8;

// From so many on, bindings take instances from each other, which then pack weights anew.
constexpr size_t kEnough = 4;

}  // namespace

void Plan::Instance::forget_states() {
  resolved_for = kept_for = 0;
  for (size_t i = 0; i < packed.size(); ++i) {
    if (packs_variable[i]) packed[i] = nullptr;
  }
}

// Locks are only tried: a child forked while another thread held one must not wait for it.
std::unique_ptr<Plan::Instance> InstancePool::take(uint64_t binding) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || idle_.empty()) return nullptr;
  const auto find = [&](uint64_t id) {
    return std::find_if(idle_.rbegin(), idle_.rend(),
                        [&](const auto& instance) { return instance->resolved_for == id; });
  };
  auto found = find(binding);
  if (found == idle_.rend()) found = find(0);
  if (found == idle_.rend()) {
    const bool is_cheap = idle_.back()->packed.empty();  // only addresses are to be set
    if (!is_cheap && idle_.size() < kEnough) return nullptr;
    found = idle_.rend() - 1;  // the one that was not used for the longest time
  }
  std::unique_ptr<Plan::Instance> instance = std::move(*found);
  idle_.erase(std::next(found).base());
  return instance;
}

void InstancePool::give_back(std::unique_ptr<Plan::Instance> instance) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) continue;
    if (idle_.size() < kMaxPooled) idle_.push_back(std::move(instance));
    return;
  }
}

void InstancePool::forget(uint64_t binding) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) continue;
    for (const auto& instance : idle_) {
      if (instance->resolved_for == binding) instance->forget_states();
    }
    return;
  }
}

}  // namespace handmill
