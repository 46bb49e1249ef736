// Arguments of choosing tokens. Plain aggregates: sizes and strides count elements.
#pragma once

#include <cstdint>

namespace handmill {

// y[b] = a token of row b of the logits (B, V), drawn by u[b] = (u0, u1), two numbers in [0, 1) of
// 24 bits each; -1 where no logit is a number above -inf, or one is NaN or +inf. settings:
// temperature, k, p. One block a row; scratch: V weights of 8 bytes.
struct ChooseTokenArgs {
  const float *logits, *u, *settings;
  int32_t* y;
  int64_t B, V;
};

}  // namespace handmill
