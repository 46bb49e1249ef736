// Function: from arrays to the plan for their shapes, through a small cache.

#include <Python.h>
#include <structmember.h>

#include <algorithm>
#include <new>

#include "bindings/call.h"
#include "bindings/feed.h"
#include "bindings/register.h"
#include "core/cpu.h"
#include "core/tuning.h"

namespace handmill {
namespace {

// What was called for arrays of certain dtypes and shapes.
struct Entry {
  // The target; then of each array: type number, rank, extents. Of a feed: the target, kFed, the
  // rows of a batch; then of each source: dtype, rank, the extents of a row.
  std::vector<Py_ssize_t> key;
  // A plan; its owner may drop it any time, and it is asked for again.
  std::weak_ptr<const Plan> plan;
  std::shared_ptr<const Binding> binding;
  py::object target;  // some other callable; null for a plan
};

struct FunctionObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* miss;
  PyObject* fallback;
  Py_ssize_t limit;
  std::vector<Entry>* entries;  // most recently used first
};

constexpr Py_ssize_t kFed = -1;  // no type number

// What plans are made for: the level, the tuning, and whether products of bytes have instructions.
Py_ssize_t current_target() {
  const auto tuning = &current_tuning() - tunings().data();
  const Isa isa = current_isa();
  return uses_int8_dot(isa) + 2 * (static_cast<Py_ssize_t>(isa) + kIsaCount * tuning);
}

bool are_ready(PyObject* const* args, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!is_plain_array(args[i]) || !is_ready(as_array(args[i]))) return false;
  }
  return true;
}

bool matches(const std::vector<Py_ssize_t>& key, Py_ssize_t made_for, PyObject* const* args,
             size_t count) {
  const Py_ssize_t* next = key.data();
  const Py_ssize_t* const end = next + key.size();
  if (*next++ != made_for) return false;
  for (size_t i = 0; i < count; ++i) {
    const ArrayProxy* array = as_array(args[i]);
    if (next == end || next[0] != type_number(array) || next[1] != array->nd) return false;
    next += 2;
    for (int d = 0; d < array->nd; ++d) {
      if (*next++ != array->dimensions[d]) return false;
    }
  }
  return next == end;
}

std::vector<Py_ssize_t> key_of(Py_ssize_t made_for, PyObject* const* args, size_t count) {
  std::vector<Py_ssize_t> key = {made_for};
  for (size_t i = 0; i < count; ++i) {
    const ArrayProxy* array = as_array(args[i]);
    key.push_back(type_number(array));
    key.push_back(array->nd);
    const std::span<const Py_ssize_t> shape = array_shape(array);
    key.insert(key.end(), shape.begin(), shape.end());
  }
  return key;
}

PyObject* call_fallback(const FunctionObject* self, PyObject* const* args, size_t count) {
  if (self->fallback == Py_None) {
    throw py::type_error("arguments must be C-contiguous, aligned ndarrays in native byte order");
  }
  return PyObject_Vectorcall(self->fallback, args, count, nullptr);
}

// Runs the plan. Where a guard refuses the arguments, nothing was written, and the fallback finds
// better words for it.
PyObject* call_bound(const FunctionObject* self, const BoundPlan& bound, PyObject* const* args,
                     size_t count) {
  GuardFailure failure;
  py::object result = run_plan(bound, args, &failure);
  if (!failure) return result.release().ptr();
  if (self->fallback != Py_None) return call_fallback(self, args, count);
  set_guard_failed(failure);
  return nullptr;
}

bool matches(const std::vector<Py_ssize_t>& key, Py_ssize_t made_for, const Feed& feed,
             Py_ssize_t batch) {
  const Py_ssize_t* next = key.data();
  const Py_ssize_t* const end = next + key.size();
  if (key.size() < 3 || next[0] != made_for || next[1] != kFed || next[2] != batch) return false;
  next += 3;
  for (const Feed::Source& source : feed.sources) {
    const auto rank = static_cast<Py_ssize_t>(source.row_shape.size());
    if (end - next < 2 + rank || next[0] != static_cast<Py_ssize_t>(source.dtype) ||
        next[1] != rank || !std::equal(next + 2, next + 2 + rank, source.row_shape.begin())) {
      return false;
    }
    next += 2 + rank;
  }
  return next == end;
}

std::vector<Py_ssize_t> key_of(Py_ssize_t made_for, const Feed& feed, Py_ssize_t batch) {
  std::vector<Py_ssize_t> key = {made_for, kFed, batch};
  for (const Feed::Source& source : feed.sources) {
    key.push_back(static_cast<Py_ssize_t>(source.dtype));
    key.push_back(static_cast<Py_ssize_t>(source.row_shape.size()));
    key.insert(key.end(), source.row_shape.begin(), source.row_shape.end());
  }
  return key;
}

void put_first(FunctionObject* self, Entry made) {
  std::vector<Entry>& entries = *self->entries;
  entries.insert(entries.begin(), std::move(made));
  std::vector<Entry> dropped;  // destroyed when the list is in order again
  while (static_cast<Py_ssize_t>(entries.size()) > self->limit) {
    dropped.push_back(std::move(entries.back()));
    entries.pop_back();
  }
}

PyObject* call_miss(FunctionObject* self, Py_ssize_t made_for, PyObject* const* args,
                    size_t count) {
  const auto target =
      py::reinterpret_steal<py::object>(PyObject_Vectorcall(self->miss, args, count, nullptr));
  if (!target) return nullptr;
  const BoundPlan* bound = bound_plan_of(target.ptr());
  Entry made{key_of(made_for, args, count), {}, {}, {}};
  if (bound != nullptr) {
    check_arguments(*bound->plan, args, count);  // from now on, equal keys vouch for it
    made.plan = bound->plan;
    made.binding = bound->binding;
  } else if (PyCallable_Check(target.ptr()) != 0) {
    made.target = target;
  } else {
    throw py::type_error("miss must return a plan with its states or another callable");
  }
  put_first(self, std::move(made));
  if (bound != nullptr) return call_bound(self, *bound, args, count);
  return PyObject_Vectorcall(target.ptr(), args, count, nullptr);
}

PyObject* call(PyObject* object, PyObject* const* args, size_t flagged_count, PyObject* names) {
  auto* self = reinterpret_cast<FunctionObject*>(object);
  const size_t count = static_cast<size_t>(PyVectorcall_NARGS(flagged_count));
  try {
    if (names != nullptr && PyTuple_GET_SIZE(names) != 0) {
      throw py::type_error("the function is called with arrays, without keywords");
    }
    if (!are_ready(args, count)) return call_fallback(self, args, count);
    const Py_ssize_t made_for = current_target();
    std::vector<Entry>& entries = *self->entries;
    for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
      if (!matches(entry->key, made_for, args, count)) continue;
      if (entry != entries.begin()) std::rotate(entries.begin(), entry, entry + 1);
      const Entry& front = entries.front();  // copied, as the list may change under the call
      if (front.target) {
        const py::object target = front.target;
        return PyObject_Vectorcall(target.ptr(), args, count, nullptr);
      }
      const BoundPlan bound{front.plan.lock(), front.binding};
      if (bound.plan != nullptr) return call_bound(self, bound, args, count);
      entries.erase(entries.begin());
      break;
    }
    return call_miss(self, made_for, args, count);
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// The plan for batches of a feed: a known one, or the one that `miss` gives.
BoundPlan fed_plan(FunctionObject* self, const Feed& feed, Py_ssize_t batch, PyObject* miss) {
  const Py_ssize_t made_for = current_target();
  std::vector<Entry>& entries = *self->entries;
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    if (!matches(entry->key, made_for, feed, batch)) continue;
    if (entry != entries.begin()) std::rotate(entries.begin(), entry, entry + 1);
    BoundPlan bound{entries.front().plan.lock(), entries.front().binding};
    if (bound.plan != nullptr) return bound;
    entries.erase(entries.begin());
    break;
  }
  const auto target = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(miss));
  if (!target) throw py::error_already_set();
  const BoundPlan* bound = bound_plan_of(target.ptr());
  if (bound == nullptr) throw py::type_error("miss must return a plan with its states");
  put_first(self, {key_of(made_for, feed, batch), bound->plan, bound->binding, {}});
  return *bound;
}

PyObject* run_fed_method(PyObject* object, PyObject* const* args, Py_ssize_t count) {
  try {
    if (count != 5) {
      throw py::type_error("run_fed takes feed, batch_size, max_steps, deadline_seconds, miss");
    }
    py::detail::make_caster<FeedHolder> feed;
    if (!feed.load(args[0], false)) throw py::type_error("run_fed takes a Feed");
    auto& holder = py::detail::cast_op<FeedHolder&>(feed);
    const auto batch = py::cast<Py_ssize_t>(py::handle(args[1]));
    const auto max_steps = py::cast<int64_t>(py::handle(args[2]));
    const auto seconds = py::cast<double>(py::handle(args[3]));
    auto* self = reinterpret_cast<FunctionObject*>(object);
    const BoundPlan bound = fed_plan(self, holder.feed, batch, args[4]);
    const FedResult result = run_fed(bound, holder, max_steps, seconds);
    if (!result.failure) return PyLong_FromLongLong(result.steps);
    set_guard_failed(result.failure);
  } catch (...) {
    set_python_error();
  }
  return nullptr;
}

PyObject* make(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"miss", "fallback", "limit", nullptr};
  PyObject* miss = nullptr;
  PyObject* fallback = Py_None;
  Py_ssize_t limit = 64;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "O|On", const_cast<char**>(names), &miss, &fallback,
                                  &limit) == 0) {
    return nullptr;
  }
  if (limit < 1) {
    PyErr_SetString(PyExc_ValueError, "limit must be at least 1");
    return nullptr;
  }
  auto* self = reinterpret_cast<FunctionObject*>(type->tp_alloc(type, 0));
  if (self == nullptr) return nullptr;
  self->vectorcall = call;
  self->miss = Py_NewRef(miss);
  self->fallback = Py_NewRef(fallback);
  self->limit = limit;
  self->entries = new (std::nothrow) std::vector<Entry>;
  if (self->entries == nullptr) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  return reinterpret_cast<PyObject*>(self);
}

PyObject* clear_entries(PyObject* object, PyObject*) {
  auto* self = reinterpret_cast<FunctionObject*>(object);
  std::vector<Entry> dropped;
  dropped.swap(*self->entries);
  Py_RETURN_NONE;
}

int traverse(PyObject* object, visitproc visit, void* arg) {
  auto* self = reinterpret_cast<FunctionObject*>(object);
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->miss);
  Py_VISIT(self->fallback);
  if (self->entries != nullptr) {
    for (const Entry& entry : *self->entries) Py_VISIT(entry.target.ptr());
  }
  return 0;
}

int clear(PyObject* object) {
  auto* self = reinterpret_cast<FunctionObject*>(object);
  Py_CLEAR(self->miss);
  Py_CLEAR(self->fallback);
  if (self->entries != nullptr) {
    std::vector<Entry> dropped;
    dropped.swap(*self->entries);
  }
  return 0;
}

void deallocate(PyObject* object) {
  auto* self = reinterpret_cast<FunctionObject*>(object);
  PyTypeObject* type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  clear(object);
  delete self->entries;
  type->tp_free(object);
  Py_DECREF(type);
}

Py_ssize_t length(PyObject* object) {
  return static_cast<Py_ssize_t>(reinterpret_cast<FunctionObject*>(object)->entries->size());
}

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FunctionObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyMethodDef methods[] = {
    {"clear", clear_entries, METH_NOARGS, "Forgets all plans."},
    {"run_fed", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(run_fed_method)),
     METH_FASTCALL,
     "Runs steps on the next batches of `batch_size` rows of the feed; returns how many were done. "
     "`miss()` gives the plan when it is needed first. Raises GuardFailed for a batch that a guard "
     "refused: the feed stands before it."},
    {nullptr, nullptr, 0, nullptr}};

const char kDoc[] =
    "Function(miss, fallback=None, limit=64)\n\n"
    "Calls the plan for the dtypes and shapes of its arguments. `miss(*arrays)` makes it when it "
    "is needed first; at most `limit` are known, the most recently used. Plans belong to others: "
    "`miss` makes one again that is gone. `fallback(*args)` is called with arguments that are not "
    "plain, contiguous, aligned ndarrays, or that a guard refused.";

template <class T>
void* slot(T function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

void register_function(py::module_& m) {
  PyType_Slot slots[] = {{Py_tp_new, slot(make)},
                         {Py_tp_dealloc, slot(deallocate)},
                         {Py_tp_traverse, slot(traverse)},
                         {Py_tp_clear, slot(clear)},
                         {Py_tp_call, slot(PyVectorcall_Call)},
                         {Py_mp_length, slot(length)},
                         {Py_tp_members, members},
                         {Py_tp_methods, methods},
                         {Py_tp_doc, const_cast<char*>(kDoc)},
                         {0, nullptr}};
  PyType_Spec spec = {"handmill._core.Function", sizeof(FunctionObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, slots};
  const auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
  if (!type) throw py::error_already_set();
  m.attr("Function") = type;
}

}  // namespace handmill
