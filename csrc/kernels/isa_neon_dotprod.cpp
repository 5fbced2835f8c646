// Owns: the kernel table for NEON with the dot products of ARMv8.2 (Cortex-A76, Neoverse N1, Apple
// A13 and later).
#include "kernels/attend_inl.h"
#include "kernels/dense_inl.h"
#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/logits_inl.h"
#include "kernels/packed_inl.h"
#include "kernels/store_kv_inl.h"
#include "kernels/tiles_neon_inl.h"

namespace bitnet {

extern const KernelTable kNeonDotprodTable;
const KernelTable kNeonDotprodTable = {
    "neon_dotprod",
    {dense_linear<Neon, float>, dense_linear<Neon, F16>, dense_linear<Neon, BF16>,
     packed_linear<Int8>, packed_linear<Ternary2>},
    {nullptr, nullptr, nullptr, packed_dot<Int8>, packed_dot<Ternary2>},
    nullptr,
    quantize_act<Neon>,
    rms_norm<Neon>,
    rope<Neon>,
    gated_activation<Neon>,
    add<Neon>,
    store_kv<Neon>,
    attend_block<Neon>,
    attend_merge<Neon>,
    attend_finish<Neon>,
    block_maxima<Neon>,
    sum_exp<Neon>,
};

}  // namespace bitnet
