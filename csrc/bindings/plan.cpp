// Plan.

#include "core/plan.h"

#include <pybind11/stl.h>

#include <cstring>

#include "bindings/call.h"
#include "bindings/feed.h"
#include "bindings/gil.h"
#include "bindings/pinned.h"
#include "bindings/register.h"
#include "core/check.h"
#include "core/instance.h"

namespace handmill {
namespace {

PyTypeObject* bound_plan_type = nullptr;
PyObject* guard_failed_type = nullptr;

PyObject* call_plan(PyObject* self, PyObject* args, PyObject* kwargs) {
  try {
    const BoundPlan* bound = bound_plan_of(self);
    if (bound == nullptr || (kwargs != nullptr && PyDict_GET_SIZE(kwargs) != 0)) {
      throw py::type_error("a plan is called with arrays, without keywords");
    }
    PyObject* const* items = reinterpret_cast<PyTupleObject*>(args)->ob_item;
    check_arguments(*bound->plan, items, static_cast<size_t>(PyTuple_GET_SIZE(args)));
    GuardFailure failure;
    py::object result = run_plan(*bound, items, &failure);
    if (failure) set_guard_failed(failure);
    return result.release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

std::vector<const void*> pointers_of(const Plan& plan, const py::args& args, Pinned& pinned) {
  PyObject* const* items = reinterpret_cast<PyTupleObject*>(args.ptr())->ob_item;
  check_arguments(plan, items, args.size());
  std::vector<const void*> pointers;
  for (py::handle array : args) {
    pinned.add(array.ptr());
    pointers.push_back(as_array(array.ptr())->data);
  }
  return pointers;
}

void require_passed(const GuardFailure& failure) {
  if (!failure) return;
  set_guard_failed(failure);
  throw py::error_already_set();
}

py::dict values(const BoundPlan& bound, const py::args& args) {
  const Plan& plan = *bound.plan;
  Pinned pinned;
  const std::vector<const void*> inputs = pointers_of(plan, args, pinned);
  const Plan::Lease lease(plan, *bound.binding);
  require_passed(plan.run_values(*lease, inputs.data()));
  py::dict arrays;
  for (size_t v = 0; v < plan.program().values.size(); ++v) {
    const int value = static_cast<int>(v);
    const std::byte* data = plan.value_data(*lease, value);
    if (data == nullptr) continue;
    const py::object array = new_array(plan.program().values[v].dtype, plan.shape(value));
    std::memcpy(as_array(array.ptr())->data, data, static_cast<size_t>(plan.value_bytes(value)));
    arrays[py::int_(value)] = array;
  }
  return arrays;
}

py::list summary(const Plan& plan) {
  py::list list;
  for (const LaunchRecord& record : plan.records()) {
    const NodeRecord* node =
        record.node < 0 ? nullptr : &plan.program().nodes[static_cast<size_t>(record.node)];
    py::dict row;
    row["kernel"] = py::str(record.kernel.data(), record.kernel.size());
    row["scope"] = node == nullptr ? std::string() : node->scope;
    row["node"] = record.node;
    row["isa"] = record.host ? std::string("host") : std::string(isa_name(plan.isa()));
    row["blocks"] = record.blocks;
    row["bytes"] = record.traffic.read + record.traffic.written;
    row["bytes_read"] = record.traffic.read;
    row["bytes_written"] = record.traffic.written;
    row["bytes_in_place"] = record.traffic.in_place;
    row["flops"] = record.flops;
    row["host"] = record.host;
    row["barrier"] = record.barrier;
    row["cached"] = record.cached;
    row["times"] = record.times;
    list.append(row);
  }
  return list;
}

std::vector<double> profile(const BoundPlan& bound, const py::args& args, int repeats) {
  const Plan& plan = *bound.plan;
  Pinned pinned;
  const std::vector<const void*> inputs = pointers_of(plan, args, pinned);
  std::vector<py::object> arrays;
  std::vector<void*> outputs;
  for (int value : plan.program().outputs) {
    arrays.push_back(
        new_array(plan.program().values[static_cast<size_t>(value)].dtype, plan.shape(value)));
    outputs.push_back(as_array(arrays.back().ptr())->data);
  }
  const Plan::Lease lease(plan, *bound.binding);
  const GilRelease release;
  return plan.profile(*lease, inputs.data(), outputs.data(), repeats);
}

// What is known of a plan before it runs.
template <class Class, class PlanOf>
void define_facts(Class& type, PlanOf plan_of) {
  using T = typename Class::type;
  type.def(
          "summary", [=](const T& t) { return summary(plan_of(t)); }, "A dict for each step.")
      .def_property_readonly("arena_bytes", [=](const T& t) { return plan_of(t).arena_bytes(); })
      .def_property_readonly("lower_bound_bytes",
                             [=](const T& t) { return plan_of(t).lower_bound_bytes(); })
      .def_property_readonly("nbytes", [=](const T& t) { return plan_of(t).bytes(); })
      .def_property_readonly("has_host_nodes",
                             [=](const T& t) { return plan_of(t).has_host_nodes(); })
      .def_property_readonly("call_threads", [=](const T& t) { return plan_of(t).call_threads(); })
      .def_property_readonly(
          "sizes",
          [=](const T& t) {
            const std::span<const int64_t> sizes = plan_of(t).sizes();
            return py::tuple(py::cast(std::vector<int64_t>(sizes.begin(), sizes.end())));
          })
      .def_property_readonly("isa",
                             [=](const T& t) { return std::string(isa_name(plan_of(t).isa())); });
}

BoundPlan bind(const std::shared_ptr<Plan>& plan, const std::shared_ptr<Binding>& binding) {
  static const auto empty = std::make_shared<Binding>(std::vector<std::shared_ptr<State>>());
  const std::shared_ptr<Binding>& found = binding == nullptr ? empty : binding;
  found->check(plan->program());
  return {plan, found};
}

// Runs into arrays that are there already.
void run_into(const BoundPlan& bound, const py::args& args, const py::sequence& outputs) {
  const Plan& plan = *bound.plan;
  Pinned pinned;
  const std::vector<const void*> inputs = pointers_of(plan, args, pinned);
  const std::vector<int>& values = plan.program().outputs;
  require(outputs.size() == values.size(), "the plan has ", values.size(), " outputs, got ",
          outputs.size(), " arrays");
  std::vector<py::array> arrays;
  std::vector<void*> pointers;
  for (size_t i = 0; i < values.size(); ++i) {
    arrays.push_back(ready_array(py::object(outputs[i]), "the arrays for outputs"));
    py::array& array = arrays.back();
    const std::span<const int64_t> want = plan.shape(values[i]);
    const std::span<const Py_ssize_t> got = array_shape(as_array(array.ptr()));
    require(array.writeable() && std::equal(want.begin(), want.end(), got.begin(), got.end()) &&
                dtype_of(as_array(array.ptr())) ==
                    plan.program().values[static_cast<size_t>(values[i])].dtype,
            "output ", i, " is not written to that array: it must be writeable, of shape ",
            shape_text(want), " and of the dtype of the output");
    pinned.add(array.ptr());
    pointers.push_back(array.mutable_data());
  }
  const Plan::Lease lease(plan, *bound.binding);
  GuardFailure failure;
  {
    const GilRelease release;
    failure = plan.run(*lease, inputs.data(), pointers.data());
  }
  require_passed(failure);
}

py::tuple run_fed_plan(const BoundPlan& bound, FeedHolder& holder, int64_t max_steps,
                       double seconds) {
  const FedResult result = run_fed(bound, holder, max_steps, seconds);
  const GuardFailure& failure = result.failure;
  py::tuple detail;
  if (failure) detail = py::make_tuple(failure.node, failure.index, failure.value);
  return py::make_tuple(result.steps, failure ? 1 : 0, detail);
}

}  // namespace

const BoundPlan* bound_plan_of(PyObject* object) {
  if (Py_TYPE(object) != bound_plan_type) return nullptr;
  // The value pointer of an instance whose holder fits: no search through base classes.
  const auto* instance = reinterpret_cast<py::detail::instance*>(object);
  return static_cast<const BoundPlan*>(instance->simple_value_holder[0]);
}

void set_guard_failed(const GuardFailure& failure) {
  const py::tuple arguments = py::make_tuple(failure.node, failure.index, failure.value);
  PyErr_SetObject(guard_failed_type, arguments.ptr());
}

void register_plan(py::module_& m) {
  guard_failed_type =
      PyErr_NewExceptionWithDoc("handmill._core.GuardFailed",
                                "A guard refused a batch: (node, index in the batch, value). "
                                "Nothing was written.",
                                PyExc_ValueError, nullptr);
  if (guard_failed_type == nullptr) throw py::error_already_set();
  m.attr("GuardFailed") = py::reinterpret_borrow<py::object>(guard_failed_type);

  py::class_<Plan, std::shared_ptr<Plan>> plan(m, "Plan", "A program for certain sizes.");
  plan.def("bind", &bind, py::arg("binding") = py::none(),
           "The plan for these states; None: of a program without variables.")
      .def_property_readonly("last_use", &Plan::last_use,
                             "How many plans had been made when it ran last.");
  define_facts(plan, [](const Plan& p) -> const Plan& { return p; });

  py::class_<Binding, std::shared_ptr<Binding>>(
      m, "Binding", "The states behind the variables of programs, in their order.")
      .def(py::init<std::vector<std::shared_ptr<State>>>(), py::arg("states"))
      .def("__len__", &Binding::size);

  const py::class_<BoundPlan> bound(
      m, "BoundPlan", "A plan and the states that it works on: bound(*arrays) runs it.",
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = call_plan; }));
  bound_plan_type = reinterpret_cast<PyTypeObject*>(bound.ptr());
  auto methods = bound;
  define_facts(methods, [](const BoundPlan& b) -> const Plan& { return *b.plan; });
  methods
      .def("run_fed", &run_fed_plan, py::arg("feed"), py::arg("max_steps"),
           py::arg("deadline_seconds") = 0.05,
           "Runs steps on the next batches of the feed; returns (steps done, status, detail).")
      .def("run_into", &run_into, py::kw_only(), py::arg("outputs"),
           "Runs; writes the outputs into arrays, which must not overlap those given or variables.")
      .def("values", &values, "Runs without updates; returns every value by its number.")
      .def("profile", &profile, py::kw_only(), py::arg("repeats") = 10,
           "The least seconds of each step over some runs. Variables are written.")
      .def_property_readonly(
          "plan", [](const BoundPlan& b) { return std::const_pointer_cast<Plan>(b.plan); },
          "The plan, for any states.");

  m.def("give_back_free_memory", &give_back_free_memory,
        "Gives memory that was freed back to the system.");
  m.def("plan_bytes", &plan_bytes,
        "The memory of all plans: descriptions, instances, packed copies of weights.");
}

}  // namespace handmill
