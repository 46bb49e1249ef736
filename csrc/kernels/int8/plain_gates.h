// Gates whose float32 operations are rounded one by one: the same bits at every level, and those of
// NumPy (primitives/int8_recurrent.py, which says where the coefficients are from).
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

HM_INLINE Vec plain_tanh(Vec x) {
  constexpr float kEdge = 7.90531110763549805f;
  constexpr float kOdd[] = {-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                            5.12229709037114e-08f,  1.48572235717979e-05f, 6.37261928875436e-04f,
                            4.89352455891786e-03f};
  constexpr float kEven[] = {1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f,
                             4.89352518554385e-03f};
  x = at_most(at_least(x, Vec::broadcast(-kEdge)), Vec::broadcast(kEdge));
  const Vec square = x * x;
  Vec above = Vec::broadcast(kOdd[0]), below = Vec::broadcast(kEven[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 7; ++i) above = above * square + Vec::broadcast(kOdd[i]);
#pragma GCC unroll 8
  for (int i = 1; i < 4; ++i) below = below * square + Vec::broadcast(kEven[i]);
  const Vec one = Vec::broadcast(1.0f);
  return at_most(at_least(x * above / below, -one), one);
}

HM_INLINE Vec plain_sigmoid(Vec x) {
  const Vec half = Vec::broadcast(0.5f);
  return half + half * plain_tanh(half * x);
}

}  // namespace handmill::HM_ISA
