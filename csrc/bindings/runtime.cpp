// Levels, threads, and the tables of kernels, lowering rules and tile instructions.

#include <pybind11/stl.h>

#include "bindings/register.h"
#include "core/check.h"
#include "core/cpu.h"
#include "core/lower/elementwise/tile.h"
#include "core/memory.h"
#include "core/pace.h"
#include "core/parallel.h"
#include "core/program.h"
#include "core/registry.h"
#include "core/tuning.h"

namespace py = pybind11;

namespace handmill {
namespace {

py::tuple isa_names() {
  std::vector<std::string> names;
  for (Isa isa : available_isas()) names.emplace_back(isa_name(isa));
  return py::tuple(py::cast(names));
}

py::tuple kernel_names() {
  std::vector<std::string> names;
  for (int i = 0; i < static_cast<int>(Kernel::count); ++i) {
    names.emplace_back(kernel_name(static_cast<Kernel>(i)));
  }
  return py::tuple(py::cast(names));
}

py::dict epilogues() {
  py::list activations, derivatives;
#define HM_ACTIVATION(name) activations.append(#name);
#define HM_ACTIVATION_GRAD(name) derivatives.append(#name);
#include "kernels/matmul/epilogues.def"
  py::dict names;
  names["activation"] = py::tuple(activations);
  names["act_grad"] = py::tuple(derivatives);
  return names;
}

py::dict tile_opcodes() {
  py::dict codes;
  int code = 0;
  for (const TileOpInfo& info : tile_op_infos()) codes[py::str(info.name)] = code++;
  return codes;
}

py::dict tile_types() {
  py::dict types;
  for (const TileOpInfo& info : tile_op_infos()) {
    types[py::str(info.name)] = py::str(info.types.data(), info.types.size());
  }
  return types;
}

py::tuple plan_buffers(const std::vector<int64_t>& sizes, const std::vector<int>& first_use,
                       const std::vector<int>& last_use,
                       const std::vector<std::pair<int, int>>& alias) {
  const size_t n = sizes.size();
  require(first_use.size() == n && last_use.size() == n,
          "sizes, first_use and last_use must have the same length");
  std::vector<Lifetime> buffers;
  for (size_t i = 0; i < n; ++i) {
    require(sizes[i] >= 0 && first_use[i] <= last_use[i], "buffer ", i, " has no valid lifetime");
    buffers.push_back({sizes[i], first_use[i], last_use[i], first_use[i], last_use[i]});
  }
  for (auto [out, in] : alias) {
    require(out >= 0 && in >= 0 && static_cast<size_t>(out) < n && static_cast<size_t>(in) < n,
            "alias names a buffer that is not there");
  }
  const MemoryPlan plan = plan_memory(buffers, alias);
  return py::make_tuple(plan.offsets, plan.total, plan.lower_bound);
}

std::vector<int64_t> rests_after(
    const std::vector<std::tuple<int, int64_t, int64_t, int64_t>>& runs) {
  const auto at = [](int64_t ns) { return Pace::Clock::time_point(Pace::Clock::duration(ns)); };
  Pace pace;
  std::vector<int64_t> rests;
  for (const auto& [threads, begin, end, used] : runs) {
    const bool alone = pace.record(threads, at(begin), at(end), [used = used] { return used; });
    rests.push_back(alone ? (pace.alone_until() - at(end)).count() : 0);
  }
  return rests;
}

}  // namespace

void register_runtime(py::module_& m) {
  m.def(
      "isa", [] { return std::string(isa_name(current_isa())); },
      "The instruction-set level of new plans.");
  m.def("set_isa", [](const std::string& name) { set_isa(find_isa(name)); }, py::arg("name"));
  m.def(
      "tuning", [] { return std::string(current_tuning().name); },
      "What new plans are tuned for: a family of CPUs. No number depends on it.");
  m.def("uses_int8_dot", [] { return uses_int8_dot(current_isa()); });
  m.def("set_int8_dot", &set_int8_dot, py::arg("use"));
  m.def("set_tuning", [](const std::string& name) { set_tuning(name); }, py::arg("name"));
  m.def(
      "tunings",
      [] {
        py::dict cpus;
        for (const Tuning& tuning : tunings()) {
          cpus[py::str(std::string(tuning.name))] = std::string(tuning.cpus);
        }
        return cpus;
      },
      "The names of all tunings, and which CPUs they are for.");
  m.def("available_isas", &isa_names, "The levels that run here, lowest first.");
  m.def(
      "default_isa", [] { return std::string(isa_name(default_isa())); },
      "The level of new plans where nobody chose another.");
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("thread_reason", &thread_reason, "Where the number of threads comes from.");
  m.def("cgroup_quota", &cgroup_quota, py::arg("root") = "",
        "The CPUs that control groups grant; 0 if unlimited. `root` precedes /proc and /sys.");
  m.attr("openmp") = has_openmp();
  m.def("kernels", &kernel_names, "The names of all kernels.");
  m.def(
      "lowering_rules", [] { return py::tuple(py::cast(lowering_rule_names())); },
      "The kernel names that nodes of a program may have.");
  m.def("epilogues", &epilogues, "What a matrix product can end with, by kind.");
  m.def("tile_opcodes", &tile_opcodes, "The number of each tile instruction.");
  m.def("tile_types", &tile_types,
        "The types in which each tile instruction computes: F float32, D float64, I integers.");
  m.def("rests_after", &rests_after, py::arg("runs"),
        "How long runs go alone after each of these (ns): runs are (threads, begin, end, processor "
        "time of the process at the end).");
  m.def("plan_memory", &plan_buffers, py::arg("sizes"), py::arg("first_use"), py::arg("last_use"),
        py::arg("alias"), "Returns (offsets, total, lower bound).");
}

}  // namespace handmill
