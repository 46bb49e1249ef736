#include "bindings/feed.h"

#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"

namespace handmill {
namespace {

void require_idle(const FeedHolder& holder) {
  require(!holder.in_use, "the feed is in use by a running plan");
}

std::vector<int64_t> row_shape_of(const py::array& array, const char* what) {
  require(array.ndim() >= 1, what, " must have rows");
  const std::span<const Py_ssize_t> shape = array_shape(as_array(array.ptr()));
  return {shape.begin() + 1, shape.end()};
}

void set_order(FeedHolder& holder, const py::object& order) {
  require_idle(holder);
  require(!holder.feed.composes, "a feed that composes rows has no order");
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
    std::vector<int64_t> row_shape = row_shape_of(array, "the sources of a feed");
    require(holder->feed.sources.empty() || array.shape(0) == holder->feed.source_rows,
            "the sources of a feed must have the same number of rows, got ", array.shape(0),
            " and ", holder->feed.source_rows);
    holder->feed.source_rows = array.shape(0);
    holder->feed.sources.push_back({static_cast<const std::byte*>(array.data()),
                                    *dtype_of(as_array(array.ptr())), std::move(row_shape)});
    holder->arrays.add(array.ptr());
  }
  set_order(*holder, order);
  return holder;
}

// Adds to each source, the rows of a background, the row to compose them with.
std::unique_ptr<FeedHolder> make_composed(const py::list& sources, const py::list& rows,
                                          const py::list& entries, int64_t players) {
  std::unique_ptr<FeedHolder> holder = make_feed(sources, py::none());
  Feed& feed = holder->feed;
  require(rows.size() == feed.sources.size() && entries.size() == feed.sources.size(),
          "a feed that composes rows takes a row and the players of its entries for each source");
  require(feed.source_rows > 0, "a feed that composes rows needs a background row");
  require(players >= 0, "the number of players must not be negative, got ", players);
  for (size_t i = 0; i < feed.sources.size(); ++i) {
    Feed::Source& source = feed.sources[i];
    const py::array row = ready_array(rows[i], "the rows to compose");
    const py::array player = ready_array(entries[i], "the players of entries");
    const std::span<const Py_ssize_t> shape = array_shape(as_array(row.ptr()));
    require(
        std::equal(shape.begin(), shape.end(), source.row_shape.begin(), source.row_shape.end()) &&
            *dtype_of(as_array(row.ptr())) == source.dtype,
        "row ", i, " to compose is not of the shape ", shape_text(source.row_shape), " and ",
        dtype_name(source.dtype), " of the background");
    require(*dtype_of(as_array(player.ptr())) == Dtype::int32 && player.size() == row.size(),
            "the players of the entries of row ", i, " must be as many int32 numbers");
    source.row = static_cast<const std::byte*>(row.data());
    source.player = static_cast<const int32_t*>(player.data());
    for (int64_t e = 0; e < player.size(); ++e) {
      require(source.player[e] >= -1 && source.player[e] < players, "entry ", e,
              " belongs to player ", source.player[e], " of ", players);
    }
    holder->arrays.add(row.ptr());
    holder->arrays.add(player.ptr());
  }
  feed.composes = true;
  feed.players = players;
  return holder;
}

void set_coalitions(FeedHolder& holder, const py::object& members) {
  require_idle(holder);
  Feed& feed = holder.feed;
  require(feed.composes, "the feed does not compose rows");
  if (members.is_none()) {
    require(feed.players <= 30, "all coalitions are for 30 players or less, got ", feed.players);
    feed.members = nullptr;
    feed.coalitions = int64_t{1} << feed.players;
    holder.members = {};
    return;
  }
  const py::array array = ready_array(members, "coalitions");
  require(*dtype_of(as_array(array.ptr())) == Dtype::bool_ && array.ndim() == 2 &&
              array.shape(1) == feed.players,
          "coalitions must be bool of shape (coalitions, ", feed.players, ")");
  Pinned pinned;
  pinned.add(array.ptr());
  holder.members = std::move(pinned);
  feed.members = static_cast<const uint8_t*>(array.data());
  feed.coalitions = array.shape(0);
}

void set_results(FeedHolder& holder, const py::list& results, int64_t first) {
  require_idle(holder);
  require(first >= 0, "the first row of results must not be negative, got ", first);
  std::vector<Feed::Result> found;
  Pinned pinned;
  for (py::handle result : results) {
    py::array array = ready_array(result, "the results of a feed");
    std::vector<int64_t> row_shape = row_shape_of(array, "the results of a feed");
    require(array.writeable(), "the results of a feed must be writeable");
    found.push_back({static_cast<std::byte*>(array.mutable_data()), array.shape(0),
                     *dtype_of(as_array(array.ptr())), std::move(row_shape)});
    pinned.add(array.ptr());
  }
  holder.feed.results = std::move(found);
  holder.feed.first_result = first;
  holder.results = std::move(pinned);
}

void set_position(FeedHolder& holder, int64_t position) {
  require_idle(holder);
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
      .def_static("composed", &make_composed, py::arg("sources"), py::arg("rows"),
                  py::arg("entries"), py::arg("players"),
                  "A feed that composes rows of coalitions: the entries of a row (one for each "
                  "source) whose player is in the coalition, the others those of a background "
                  "row. `entries`: the player of each entry, int32, -1 for none.")
      .def("set_coalitions", &set_coalitions, py::arg("members").none(true),
           "Sets the coalitions, bool (coalitions, players); None: all, player j where bit j is.")
      .def("set_results", &set_results, py::arg("results"), py::arg("first") = 0,
           "Sets where the outputs of the program go, from row `first` on: runs end where the "
           "arrays do.")
      .def_property_readonly("rows", [](const FeedHolder& h) { return h.feed.rows(); })
      .def_property(
          "position", [](const FeedHolder& h) { return h.feed.position; }, &set_position,
          "The number of rows consumed.");
}

}  // namespace handmill
