// The kernels of one level, in the order of kernels.def, for core/registry.cpp.

#include "kernels/args.h"

namespace handmill::HM_ISA {

#define HM_KERNEL(name, Args) void name(const Args& a, Range blocks, void* scratch);
#include "kernels/kernels.def"
#undef HM_KERNEL

namespace {

template <class Args, void (*kernel)(const Args&, Range, void*)>
void erased(const void* args, Range blocks, void* scratch) {
  kernel(*static_cast<const Args*>(args), blocks, scratch);
}

}  // namespace

extern const KernelFunction kernel_table[];
const KernelFunction kernel_table[] = {
#define HM_KERNEL(name, Args) erased<Args, name>,
#include "kernels/kernels.def"
#undef HM_KERNEL
    nullptr};

}  // namespace handmill::HM_ISA
