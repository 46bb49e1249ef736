#include "core/registry.h"

namespace handmill {

namespace portable {
extern const KernelFunction kernel_table[];
}
#if defined(HM_HAS_AVX2)
namespace avx2 {
extern const KernelFunction kernel_table[];
}
#endif
#if defined(HM_HAS_AVX512)
namespace avx512 {
extern const KernelFunction kernel_table[];
}
#endif
#if defined(HM_HAS_AVX512_BF16)
namespace avx512_bf16 {
void matmul_bf16(const MatmulArgs& args, Range blocks, void* scratch);
}
#endif

#if defined(HM_HAS_AVX2_VNNI)
namespace avx2_vnni {
void int8_product(const Int8ProductArgs& args, Range blocks, void* scratch);
void int8_depthwise(const Int8DepthwiseArgs& args, Range blocks, void* scratch);
void int8_recurrent(const Int8RecurrentArgs& args, Range blocks, void* scratch);
}  // namespace avx2_vnni
#endif
#if defined(HM_HAS_AVX512_VNNI)
namespace avx512_vnni {
void int8_product(const Int8ProductArgs& args, Range blocks, void* scratch);
void int8_depthwise(const Int8DepthwiseArgs& args, Range blocks, void* scratch);
void int8_recurrent(const Int8RecurrentArgs& args, Range blocks, void* scratch);
}  // namespace avx512_vnni
#endif

namespace {

constexpr std::string_view kKernelNames[] = {
#define HM_KERNEL(name, Args) #name,
#include "kernels/kernels.def"
#undef HM_KERNEL
    ""};

const KernelFunction* table(Isa isa) {
  switch (isa) {
#if defined(HM_HAS_AVX512)
    case Isa::avx512_bf16:
    case Isa::avx512:
      return avx512::kernel_table;
#endif
#if defined(HM_HAS_AVX2)
    case Isa::avx2:
      return avx2::kernel_table;
#endif
    default:
      return portable::kernel_table;
  }
}

#if defined(HM_HAS_AVX512_BF16)
void dot_matmul(const void* args, Range blocks, void* scratch) {
  avx512_bf16::matmul_bf16(*static_cast<const MatmulArgs*>(args), blocks, scratch);
}
#endif

#if defined(HM_HAS_AVX2_VNNI) && defined(HM_HAS_AVX512_VNNI)
template <class Args, void (*kernel)(const Args&, Range, void*)>
void erased(const void* args, Range blocks, void* scratch) {
  kernel(*static_cast<const Args*>(args), blocks, scratch);
}

// The kernel of a level with dot products of bytes; null where it has none.
KernelFunction int8_dot_kernel(Isa isa, Kernel kernel) {
  const bool narrow = isa == Isa::avx2;
  switch (kernel) {
    case Kernel::int8_product:
      return narrow ? erased<Int8ProductArgs, avx2_vnni::int8_product>
                    : erased<Int8ProductArgs, avx512_vnni::int8_product>;
    case Kernel::int8_depthwise:
      return narrow ? erased<Int8DepthwiseArgs, avx2_vnni::int8_depthwise>
                    : erased<Int8DepthwiseArgs, avx512_vnni::int8_depthwise>;
    case Kernel::int8_recurrent:
      return narrow ? erased<Int8RecurrentArgs, avx2_vnni::int8_recurrent>
                    : erased<Int8RecurrentArgs, avx512_vnni::int8_recurrent>;
    default:
      return nullptr;
  }
}
#endif

}  // namespace

std::string_view kernel_name(Kernel kernel) { return kKernelNames[static_cast<int>(kernel)]; }

KernelFunction kernel_function(Isa isa, Kernel kernel) {
#if defined(HM_HAS_AVX512_BF16)
  if (isa == Isa::avx512_bf16 && kernel == Kernel::matmul_bf16) return dot_matmul;
#endif
#if defined(HM_HAS_AVX2_VNNI) && defined(HM_HAS_AVX512_VNNI)
  if (uses_int8_dot(isa)) {
    if (const KernelFunction found = int8_dot_kernel(isa, kernel); found != nullptr) return found;
  }
#endif
  return table(isa)[static_cast<int>(kernel)];
}

}  // namespace handmill
