// Lane and LaneQueue: trainings side by side.

#include "core/lane.h"

#include <pybind11/stl.h>

#include <chrono>
#include <optional>
#include <string>

#include "bindings/call.h"
#include "bindings/feed.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"
#include "core/lane_queue.h"

namespace handmill {
namespace {

constexpr std::chrono::milliseconds kBetweenSignals{50};

using States = std::vector<std::shared_ptr<State>>;
using Resets = std::vector<std::pair<std::shared_ptr<State>, std::string>>;

// (feed, [(bound plan, steps), ...], [(state, bytes), ...])
LanePass pass_of(const FeedHolder& holder, const py::list& steps, const Resets& resets) {
  LanePass pass;
  pass.feed.sources = holder.feed.sources;
  pass.feed.source_rows = holder.feed.source_rows;
  for (py::handle item : steps) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const BoundPlan* bound = bound_plan_of(py::object(pair[0]).ptr());
    if (bound == nullptr) throw py::type_error("a lane needs plans with their states");
    require(!bound->plan->has_host_nodes(), "a lane runs no plan with host nodes");
    pass.steps.push_back({bound->plan, bound->binding, pair[1].cast<int64_t>()});
  }
  for (const auto& [state, bytes] : resets) {
    require(static_cast<int64_t>(bytes.size()) == state->bytes(), "a reset has ", bytes.size(),
            " bytes, its state ", state->bytes());
    const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
    pass.resets.emplace_back(state, std::vector<std::byte>(data, data + bytes.size()));
  }
  return pass;
}

std::shared_ptr<Lane> make_lane(const FeedHolder& feed, const py::list& steps, const Resets& resets,
                                const States& results, const std::shared_ptr<State>& alive,
                                int64_t epochs) {
  auto lane = std::make_shared<Lane>();
  lane->training = pass_of(feed, steps, resets);
  lane->results = results;
  lane->alive = alive;
  lane->epochs = epochs;
  return lane;
}

void validate(Lane& lane, const FeedHolder& feed, const py::list& steps, const Resets& resets) {
  lane.validation = pass_of(feed, steps, resets);
}

void shuffle(Lane& lane, uint64_t seed, uint64_t orders) {
  lane.seed = seed;
  lane.orders = orders;
  lane.training.shuffles = true;
  lane.training.feed.has_order = true;
  lane.training.feed.order.resize(static_cast<size_t>(lane.training.feed.source_rows));
}

void help(LaneQueue& queue, std::optional<double> seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(seconds.value_or(0)));
  const bool has_end = seconds.has_value();
  bool interrupted = false;
  {
    const GilRelease release;
    queue.help([&interrupted, has_end, end, asked = Clock::now()]() mutable {
      const auto now = Clock::now();
      if (has_end && now >= end) return true;
      if (now - asked < kBetweenSignals) return interrupted;
      const GilAcquire acquire;
      asked = now;
      interrupted = interrupted || PyErr_CheckSignals() != 0;
      return interrupted;
    });
  }
  if (interrupted || PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace

void register_lane(py::module_& m) {
  py::class_<Lane, std::shared_ptr<Lane>>(
      m, "Lane",
      "Epochs of training that one thread runs by itself. Feeds must live as long as the lane.")
      .def(py::init(&make_lane), py::arg("feed"), py::arg("steps"), py::arg("resets"),
           py::arg("results"), py::arg("alive"), py::arg("epochs"))
      .def("validate", &validate, py::arg("feed"), py::arg("steps"), py::arg("resets"),
           "Lets each epoch end with a pass over other data.")
      .def("shuffle", &shuffle, py::arg("seed"), py::arg("orders"),
           "Gives each epoch an order of its rows: permutation(seed, orders), orders + 1, ...")
      .def("rethrow", &Lane::rethrow, "Raises what ended the training, if anything did.")
      .def_property_readonly("epochs_done", &Lane::epochs_done)
      .def_property_readonly("record", [](const Lane& lane) {
        const std::vector<std::byte>& record = lane.record();
        return py::bytes(reinterpret_cast<const char*>(record.data()), record.size());
      });

  py::class_<LaneQueue>(m, "LaneQueue", "Threads that train lanes, each a whole one at a time.")
      .def(py::init([](int threads) {
             return std::make_unique<LaneQueue>(threads < 1 ? num_threads() : threads);
           }),
           py::arg("threads") = 0)
      .def("add", &LaneQueue::add, py::arg("lane"))
      .def("help", &help, py::arg("seconds") = py::none(),
           "Runs a lane that waits on this thread, or waits for one to be done; leaves it undone "
           "when the time is up.")
      .def("take", &LaneQueue::take, "The lanes that are done and were not taken before.")
      .def_property_readonly("waiting", &LaneQueue::waiting)
      .def(
          "close",
          [](LaneQueue& queue) {
            const GilRelease release;
            queue.close();
          },
          "Ends what runs at its next step, and all threads.");
}

}  // namespace handmill
