#include "bindings/feed.h"

#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"

namespace handmill {
namespace {

void set_order(FeedHolder& holder, const py::object& order) {
  require(!holder.in_use, "the feed is in use by a running plan");
  if (order.is_none()) {
    holder.feed.has_order = false;
    holder.feed.order.clear();
    return;
  }
  const py::array_t<int64_t, py::array::c_style> array(order);
  require(array.ndim() == 1, "order must have one dimension");
  const int64_t* rows = array.data();
  for (int64_t i = 0; i < array.size(); ++i) {
    require(rows[i] >= 0 && rows[i] < holder.feed.source_rows, "order names row ", rows[i], " of ",
            holder.feed.source_rows);
  }
  holder.feed.order.assign(rows, rows + array.size());
  holder.feed.has_order = true;
}

std::unique_ptr<FeedHolder> make_feed(const py::list& sources, const py::object& order) {
  auto holder = std::make_unique<FeedHolder>();
  for (py::handle source : sources) {
    py::array array = ready_array(source, "the sources of a feed");
    require(array.ndim() >= 1, "the sources of a feed must have rows");
    const std::span<const Py_ssize_t> shape = array_shape(as_array(array.ptr()));
    require(holder->feed.sources.empty() || shape[0] == holder->feed.source_rows,
            "the sources of a feed must have the same number of rows, got ", shape[0], " and ",
            holder->feed.source_rows);
    holder->feed.source_rows = shape[0];
    holder->feed.sources.push_back({static_cast<const std::byte*>(array.data()),
                                    *dtype_of(as_array(array.ptr())),
                                    {shape.begin() + 1, shape.end()}});
    holder->arrays.add(array.ptr());
  }
  set_order(*holder, order);
  return holder;
}

void set_position(FeedHolder& holder, int64_t position) {
  require(!holder.in_use, "the feed is in use by a running plan");
  require(position >= 0, "a position must not be negative, got ", position);
  holder.feed.position = position;
}

}  // namespace

FedResult run_fed(const BoundPlan& bound, FeedHolder& holder, int64_t max_steps, double seconds) {
  const Plan& plan = *bound.plan;
  require(!holder.in_use, "the feed is in use by a running plan");
  struct Use {
    explicit Use(bool& flag_in) : flag(flag_in) { flag = true; }
    ~Use() { flag = false; }
    bool& flag;
  };
  const Use use(holder.in_use);
  const Plan::Lease lease(plan, *bound.binding);
  const GilRelease release;
  return plan.run_fed(*lease, holder.feed, max_steps, seconds);
}

void register_feed(py::module_& m) {
  py::class_<FeedHolder>(m, "Feed",
                         "Rows of arrays, in an order, for run_fed of functions and plans.")
      .def(py::init(&make_feed), py::arg("sources"), py::arg("order") = py::none())
      .def("set_order", &set_order, py::arg("order"),
           "Sets the order of the rows (int64 positions in the sources); None: as they lie.")
      .def_property_readonly("rows", [](const FeedHolder& h) { return h.feed.rows(); })
      .def_property(
          "position", [](const FeedHolder& h) { return h.feed.position; }, &set_position,
          "The number of rows consumed.");
}

}  // namespace handmill
