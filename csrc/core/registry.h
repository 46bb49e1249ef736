// The kernels by name, and the function of each at every level.
#pragma once

#include <string_view>

#include "core/cpu.h"
#include "kernels/args.h"

namespace handmill {

enum class Kernel : int {
#define HM_KERNEL(name, Args) name,
#include "kernels/kernels.def"
#undef HM_KERNEL
  count
};

namespace detail {
template <Kernel>
struct KernelTraits;
#define HM_KERNEL(name, ArgsType)     \
  template <>                         \
  struct KernelTraits<Kernel::name> { \
    using Args = ArgsType;            \
  };
#include "kernels/kernels.def"
#undef HM_KERNEL
}  // namespace detail

/// The type of a kernel's arguments.
template <Kernel kernel>
using KernelArgs = typename detail::KernelTraits<kernel>::Args;

std::string_view kernel_name(Kernel kernel);

/// The kernel at a level, which must be available.
KernelFunction kernel_function(Isa isa, Kernel kernel);

}  // namespace handmill
