#include "core/packed.h"

#include <algorithm>
#include <mutex>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace handmill {
namespace {

// One lock for all copies: they are made once and then after each change of the weights. It is held
// while one is packed, so that the others who want it wait instead of making their own.
std::mutex packing_mutex;

#if defined(__unix__) || defined(__APPLE__)
// A child forked while another thread packs must not find the lock taken for ever.
[[maybe_unused]] const int packing_at_fork = pthread_atfork(
    [] { packing_mutex.lock(); }, [] { packing_mutex.unlock(); }, [] { packing_mutex.unlock(); });
#endif

}  // namespace

void PackedCopies::update(std::shared_ptr<Packed>& held, const std::string& key, int64_t bytes,
                          uint64_t version, const Pack& pack) {
  const std::lock_guard lock(packing_mutex);
  const auto found =
      std::find_if(copies_.begin(), copies_.end(), [&](auto& copy) { return copy.first == key; });
  std::shared_ptr<Packed> copy = found == copies_.end() ? nullptr : found->second.lock();
  if (held != copy) held.reset();
  if (copy == nullptr || copy->version != version) {
    // Nobody gets hold of it meanwhile: that takes the lock.
    const bool is_ours = copy != nullptr && copy.use_count() == (held == nullptr ? 1 : 2);
    if (!is_ours) copy = std::make_shared<Packed>(bytes);
    pack(copy->memory.data());
    copy->version = version;
    if (found == copies_.end()) {
      std::erase_if(copies_, [](const auto& other) { return other.second.expired(); });
      copies_.emplace_back(key, copy);
    } else {
      found->second = copy;
    }
  }
  held = std::move(copy);
}

}  // namespace handmill
