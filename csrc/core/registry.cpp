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
}
#endif
#if defined(HM_HAS_AVX512_VNNI)
namespace avx512_vnni {
void int8_product(const Int8ProductArgs& args, Range blocks, void* scratch);
}
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

#if defined(HM_HAS_AVX2_VNNI)
void int8_product_avx2_vnni(const void* args, Range blocks, void* scratch) {
  avx2_vnni::int8_product(*static_cast<const Int8ProductArgs*>(args), blocks, scratch);
}
#endif
#if defined(HM_HAS_AVX512_VNNI)
void int8_product_avx512_vnni(const void* args, Range blocks, void* scratch) {
  avx512_vnni::int8_product(*static_cast<const Int8ProductArgs*>(args), blocks, scratch);
}
#endif

}  // namespace

std::string_view kernel_name(Kernel kernel) { return kKernelNames[static_cast<int>(kernel)]; }

KernelFunction kernel_function(Isa isa, Kernel kernel) {
#if defined(HM_HAS_AVX512_BF16)
  if (isa == Isa::avx512_bf16 && kernel == Kernel::matmul_bf16) return dot_matmul;
#endif
#if defined(HM_HAS_AVX2_VNNI) && defined(HM_HAS_AVX512_VNNI)
  if (kernel == Kernel::int8_product && uses_int8_dot(isa)) {
    return isa == Isa::avx2 ? int8_product_avx2_vnni : int8_product_avx512_vnni;
  }
#endif
  return table(isa)[static_cast<int>(kernel)];
}

}  // namespace handmill
