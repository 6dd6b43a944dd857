// The centers in the type of the pass on tensor cores, as assign_sm80.cu reads them, and the bound of that pass.
//
// recenter.cu packs a center where it makes it. One piece of memory, all of it zeros at first, as what lies behind k and d stays:
//   packed (rows, row_bytes)    the centers in the type
//   quads (rows / 2, 4) float32 the half norms h0 h1 h0 h1 of two centers, HIDDEN or infinity for padding and duplicates
//   bound (6) float32           as that of assign.cu; certify = 0: a bound that certifies everything. Where scores are offset:
//                               what the bound has for each B; size of a partial sum, this and for each |x'| (exact.offset_size)
#pragma once
#include "tensor.cuh"

struct Packing {
  double half_norm, product, canonical_share, tiny, least, largest, offset;      // exact.TensorTerms
  int kind, row_bytes, rows, certify;
};

// Above every score of a row that may be certified, for which |c'| is up to 2^55 and |x'| up to 2^64; finite, because the low bits
// of a score are given to an index, and those of an infinity would make it NaN. Where scores are offset, infinity.
constexpr float HIDDEN = 1e38f;

// One center, c (d) float32, by the threads of a block. Nothing is packed on cards that have no such cores.
__device__ __forceinline__ void pack(char* packed, const Packing* how, size_t center, const float* c, int d) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  unsigned* row = reinterpret_cast<unsigned*>(packed + center * how->row_bytes);
  const int in_word = how->kind == TF32 ? 1 : 2;
  for (int i = threadIdx.x; i * in_word < d; i += blockDim.x) {
    const float low = c[i * in_word], high = in_word == 2 && 2 * i + 1 < d ? c[2 * i + 1] : 0.f;
    row[i] = how->kind == TF32 ? word_of<TF32>(low, high) : how->kind == BF16 ? word_of<BF16>(low, high) : word_of<FP16>(low, high);
  }
#endif
}

// By the last block: half norms and bound. largest: the bits of the largest |c'|, which thread 0 has written.
__device__ __forceinline__ void finish_packing(char* packed, const Packing* how, const float* half, const unsigned* largest, int k) {
  float4* quads = reinterpret_cast<float4*>(packed + (size_t)how->rows * how->row_bytes);
  const float hidden = how->offset > 0.0 ? INFINITY_F : HIDDEN;
  auto half_of = [&](int c) { return c < k ? lower(half[c], hidden) : hidden; };
  for (int i = threadIdx.x; i < how->rows / 2; i += blockDim.x) {
    const float h0 = half_of(2 * i), h1 = half_of(2 * i + 1);
    quads[i] = make_float4(h0, h1, h0, h1);
  }
  if (threadIdx.x) return;
  float* bound = reinterpret_cast<float*>(quads + how->rows / 2);
  const double c = to_f64(__uint_as_float(*largest)), least = how->least;
  const bool usable = c <= how->largest;             // not if it is NaN
  const double constant = how->half_norm * (c * c / 2.0) + how->canonical_share * c * c + how->tiny * (1.0 + c) + least * (c + least);
  bound[0] = !how->certify ? -INFINITY_F : usable ? __double2float_ru(constant) : INFINITY_F;
  bound[1] = how->certify && usable ? __double2float_ru(how->product * c + how->tiny + least) : 0.f;
  bound[2] = how->certify && usable ? __double2float_ru(how->canonical_share) : 0.f;
  bound[3] = how->certify && usable ? __double2float_ru(how->offset) : 0.f;
  bound[4] = usable ? __double2float_ru(1.03 * (c * c / 2.0 + least * (c + least))) : 0.f;
  bound[5] = usable ? __double2float_ru(1.03 * (c + least)) : 0.f;
}
