// How many threads: environment, affinity, control groups.

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/parallel.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace handmill {
namespace {

struct Choice {
  int threads;
  std::string reason;
};

// The first number of the text (OMP_NUM_THREADS may be a list), 0 if there is none.
int leading_number(const char* text) {
  if (text == nullptr) return 0;
  const std::string_view view(text);
  int number = 0;
  std::from_chars(view.data(), view.data() + view.size(), number);
  return std::max(number, 0);
}

// Throws std::invalid_argument if the variable is set to what is no positive number.
int required_number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == 0) return 0;
  const std::string_view view(text);
  int number = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), number);
  require(error == std::errc() && end == view.data() + view.size() && number >= 1, name,
          " must be a positive number of threads, got \"", view, "\"");
  return number;
}

int affinity_count() {
#if defined(__linux__)
  for (int cpus = 1024; cpus <= 1024 * 64; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpus));
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    // Where OMP_PROC_BIND is set, OpenMP has bound this thread to one of the CPUs that it may use.
    if (count > 0) return std::max(count, openmp_cpus());
  }
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Choice default_choice() {
  if (const int n = required_number("HANDMILL_NUM_THREADS"); n > 0) {
    return {n, "HANDMILL_NUM_THREADS"};
  }
  if (const int n = leading_number(std::getenv("OMP_NUM_THREADS")); n > 0) {
    return {n, "OMP_NUM_THREADS"};
  }
  const int cpus = affinity_count();
  const double quota = cgroup_quota("");
  if (quota > 0 && quota < cpus) {
    return {std::max(1, static_cast<int>(quota)), concat("cgroup quota of ", quota, " CPUs")};
  }
  return {cpus, concat("affinity to ", cpus, " CPUs")};
}

std::mutex settings_mutex;
std::atomic<int> current{0};
thread_local bool is_alone = false;
std::atomic<bool> is_fixed{false};
std::string reason;

double read_quota(const std::string& directory, bool v2) {
  if (v2) {
    std::ifstream file(directory + "/cpu.max");
    std::string quota;
    double period = 0;
    if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
    return std::max(0.0, std::strtod(quota.c_str(), nullptr) / period);
  }
  double quota = 0, period = 0;
  std::ifstream(directory + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(directory + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

// The smallest quota of the directory `path` below `mount` and of those above it.
double walk(const std::string& mount, std::string path, bool v2) {
  double smallest = 0;
  while (true) {
    const double quota = read_quota(mount + path, v2);
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
    if (path.empty()) return smallest;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

double cgroup_quota(const std::string& root) {
  double smallest = 0;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    while (!path.empty() && path.back() == '/') path.pop_back();
    // A path with ".." lies outside this process's cgroup namespace.
    if (path.find("/..") != std::string::npos) path.clear();
    const std::string base = root + "/sys/fs/cgroup";
    double quota = 0;
    if (controllers.empty()) {
      quota = walk(base, path, true);
    } else if (lists_cpu(controllers)) {
      quota = walk(base + "/cpu", path, false);
      if (quota == 0) quota = walk(base + "/" + controllers, path, false);
    }
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  }
  return smallest;
}

AloneHere::AloneHere() : before_(std::exchange(is_alone, true)) {}

AloneHere::~AloneHere() { is_alone = before_; }

int num_threads() {
  if (is_alone) return 1;
  if (const int n = current.load(std::memory_order_acquire); n > 0) [[likely]] {
    return n;
  }
  const Choice choice = default_choice();
  const std::lock_guard lock(settings_mutex);
  if (current.load(std::memory_order_acquire) == 0) {
    reason = choice.reason;
    current.store(choice.threads, std::memory_order_release);
  }
  return current.load(std::memory_order_acquire);
}

void set_num_threads(int threads) {
  require(threads >= 1, "the number of threads must be at least 1, got ", threads);
  const std::lock_guard lock(settings_mutex);
  reason = "set_num_threads";
  is_fixed.store(true, std::memory_order_relaxed);
  current.store(threads, std::memory_order_release);
}

bool threads_are_fixed() { return is_fixed.load(std::memory_order_relaxed); }

std::string thread_reason() {
  num_threads();
  const std::lock_guard lock(settings_mutex);
  return reason;
}

}  // namespace handmill
