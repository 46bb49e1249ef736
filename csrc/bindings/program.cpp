// Program: from Python's description to core/program.h.

#include "core/program.h"

#include <pybind11/stl.h>

#include <cstring>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "core/check.h"
#include "core/plan.h"

namespace handmill {
namespace {

using Node = std::tuple<std::string, std::vector<int>, std::vector<int>, py::dict,
                        std::vector<std::pair<int, int>>, std::string, py::object>;

bool is_integer(py::handle object) { return PyIndex_Check(object.ptr()) != 0; }

Attr parse_attr(const std::string& name, py::handle value) {
  Attr attr{name, Attr::Type::integer, 0, 0, {}, {}, {}, {}};
  if (py::isinstance<py::bool_>(value)) {
    attr.type = Attr::Type::boolean;
    attr.integer = value.cast<bool>() ? 1 : 0;
  } else if (py::isinstance<py::str>(value)) {
    attr.type = Attr::Type::text;
    attr.text = value.cast<std::string>();
  } else if (py::isinstance<py::list>(value)) {
    attr.type = Attr::Type::expressions;
    attr.expressions = value.cast<std::vector<int>>();
  } else if (py::isinstance<py::tuple>(value)) {
    attr.type = Attr::Type::tuple;
    bool integers = true;
    for (py::handle item : value) {
      integers = integers && is_integer(item);
      attr.floats.push_back(item.cast<double>());
    }
    for (py::handle item : value) {
      if (integers) attr.ints.push_back(py::int_(py::reinterpret_borrow<py::object>(item)));
    }
  } else if (is_integer(value)) {
    attr.integer = py::int_(py::reinterpret_borrow<py::object>(value));
  } else {
    attr.type = Attr::Type::real;
    attr.real = value.cast<double>();
  }
  return attr;
}

// The function holds a reference, which is given up under the GIL.
HostFunction host_function(const py::object& callable) {
  const std::shared_ptr<py::object> held(new py::object(callable), [](py::object* object) {
    const GilAcquire gil;
    delete object;
  });
  return [held](std::span<const ArrayRef> inputs, std::span<const ArrayRef> outputs,
                std::span<const int64_t> sizes) {
    const GilAcquire gil;
    py::list arguments;
    for (const ArrayRef& array : inputs) {
      arguments.append(array_over(array.data, array.dtype, array.shape, py::none(), false));
    }
    py::tuple values(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) values[i] = py::int_(sizes[i]);
    const py::object returned = take_gil([&] { return (*held)(arguments, values); });
    const auto results = py::reinterpret_steal<py::object>(
        PySequence_Fast(returned.ptr(), "a host node must return a tuple of arrays"));
    if (!results) throw py::error_already_set();
    require(static_cast<size_t>(PySequence_Fast_GET_SIZE(results.ptr())) == outputs.size(),
            "a host node must return ", outputs.size(), " arrays");
    for (size_t i = 0; i < outputs.size(); ++i) {
      copy_into(outputs[i].data, outputs[i].dtype, outputs[i].shape,
                PySequence_Fast_GET_ITEM(results.ptr(), static_cast<Py_ssize_t>(i)));
    }
  };
}

NodeRecord parse_node(const Node& description) {
  const auto& [kernel, inputs, outputs, attrs, alias, scope, host] = description;
  NodeRecord node;
  node.kernel = kernel;
  node.scope = scope;
  node.inputs = inputs;
  node.outputs = outputs;
  node.alias = alias;
  for (auto [name, value] : attrs) {
    if (value.is_none()) continue;
    node.attrs.push_back(parse_attr(name.cast<std::string>(), value));
    if (node.attrs.back().name == "guard") node.guard = node.attrs.back().integer != 0;
  }
  require((kernel == "host") == !host.is_none(), "node \"", kernel,
          "\": a host node, and nothing else, has a host function");
  if (!host.is_none()) node.host = host_function(host);
  return node;
}

int position_of(const std::vector<int>& values, int value, const char* what) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == value) return static_cast<int>(i);
  }
  throw std::invalid_argument(concat(what, ": value ", value, " is not one of them"));
}

std::shared_ptr<Program> make_program(
    const std::vector<std::pair<int64_t, std::vector<int64_t>>>& values, std::vector<int> inputs,
    const std::vector<std::pair<int, py::object>>& constants, std::vector<int> variables,
    const std::vector<Node>& nodes, std::vector<int> outputs,
    const std::vector<std::pair<int, int>>& updates, const std::vector<int>& feeds, int symbols,
    const std::vector<std::vector<int64_t>>& expressions, bool rows_alone) {
  auto program = std::make_shared<Program>();
  program->expressions = DimExpressions(symbols, expressions);
  program->rows_alone = rows_alone;
  for (const auto& [dtype, dims] : values) {
    program->values.push_back({dtype_of_code(dtype), static_cast<uint32_t>(program->dims.size()),
                               static_cast<uint32_t>(dims.size())});
    program->dims.insert(program->dims.end(), dims.begin(), dims.end());
  }
  program->inputs = std::move(inputs);
  program->outputs = std::move(outputs);
  for (const auto& [value, object] : constants) {
    const py::array array = py::array::ensure(object, py::array::c_style);
    require(array && dtype_of(as_array(array.ptr())) && is_ready(as_array(array.ptr())),
            "constant ", value, " is not an array");
    require(
        value >= 0 && static_cast<size_t>(value) < program->values.size() &&
            program->values[static_cast<size_t>(value)].dtype == *dtype_of(as_array(array.ptr())),
        "constant ", value, " has an array of another dtype");
    Buffer data(static_cast<int64_t>(array.nbytes()));
    std::memcpy(data.data(), array.data(), static_cast<size_t>(array.nbytes()));
    program->constants.push_back({value, std::move(data)});
  }
  program->variables = std::move(variables);
  for (const Node& node : nodes) program->nodes.push_back(parse_node(node));
  for (auto [variable, source] : updates) {
    program->updates.push_back({position_of(program->variables, variable, "updates"), source});
  }
  for (int value : feeds) {
    program->feeds.push_back(position_of(program->inputs, value, "feeds"));
  }
  program->check();
  return program;
}

std::shared_ptr<Plan> specialize(const std::shared_ptr<Program>& program,
                                 std::vector<int64_t> sizes, bool keep_all,
                                 const std::optional<std::string>& isa) {
  return std::make_shared<Plan>(program, std::move(sizes), keep_all,
                                isa ? find_isa(*isa) : current_isa());
}

}  // namespace

void register_program(py::module_& m) {
  py::class_<Program, std::shared_ptr<Program>>(m, "Program", "A graph of kernels, for any sizes.")
      .def(py::init(&make_program), py::kw_only(), py::arg("values"), py::arg("inputs"),
           py::arg("constants"), py::arg("variables"), py::arg("nodes"), py::arg("outputs"),
           py::arg("updates"), py::arg("feeds"), py::arg("symbols") = 0,
           py::arg("expressions") = py::list(), py::arg("rows_alone") = false)
      .def("specialize", &specialize, py::arg("sizes"), py::arg("keep_all") = false,
           py::arg("isa") = py::none(), "The plan for these sizes of the symbols.");
}

}  // namespace handmill
