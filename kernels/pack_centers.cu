// pack_centers: the centers in the type of the tensor pass, as assign_sm80.cu reads them, and the bound of that pass.
//
//   in    cs (k, ldc) float32: c'; half (k) float32: |c'|^2/2, +inf for duplicates; cmax (2): the second is the bits of the
//         largest |c'|: all as recenter.cu leaves them; this is launched before each pass. half_norm .. largest: exact.TensorTerms;
//         certify = 0: a bound that certifies everything
//   out   packed (rows, columns) in the type, zeros from k and ldc on; quads (rows / 2, 4) float32: the half norms h0 h1 h0 h1 of two
//         centers, HIDDEN for padding and duplicates; bound (3) of assign_sm80.cu
//   halted (1): not 0 if the loop has stopped, then nothing is done
//   launch  any number of blocks of PACK_THREADS; columns a multiple of 16, rows of 2
//   traffic 4 k ldc read, rows * columns * (2 or 4) written
//   instances  pack_centers<KIND>, KIND = 0 bf16, 1 fp16, 2 TF32
#include "tensor.cuh"

constexpr int PACK_THREADS = 128;
// Above every score of a row that may be certified, for which |c'| is up to 2^55 and |x'| up to 2^64; finite, because the low bits
// of a score are given to an index, and those of an infinity would make it NaN.
constexpr float HIDDEN = 1e38f;

template <int KIND> __global__ void __launch_bounds__(PACK_THREADS)
pack_centers(const float* __restrict__ cs, const float* __restrict__ half, const unsigned* __restrict__ cmax, unsigned* __restrict__ packed,
             float4* __restrict__ quads, float* __restrict__ bound, double half_norm, double product, double canonical_share, double tiny,
             double least, double largest, int certify, const int* __restrict__ halted, int ldc, int k, int columns, int rows) {
  if (*halted) return;
  constexpr int IN_WORD = KIND == TF32 ? 1 : 2;      // features
  const int words = columns / IN_WORD;
  const long long step = (long long)gridDim.x * PACK_THREADS, first = (long long)blockIdx.x * PACK_THREADS + threadIdx.x;
  for (long long i = first; i < (long long)rows * words; i += step) {
    const int c = int(i / words), j = int(i % words) * IN_WORD;
    const float* v = cs + (size_t)c * ldc + j;
    packed[i] = word_of<KIND>(c < k && j < ldc ? v[0] : 0.f, IN_WORD == 2 && c < k && j + 1 < ldc ? v[1] : 0.f);
  }
  auto half_of = [&](long long c) { return c < k ? lower(half[c], HIDDEN) : HIDDEN; };
  for (long long i = first; i < rows / 2; i += step) {
    const float h0 = half_of(2 * i), h1 = half_of(2 * i + 1);
    quads[i] = make_float4(h0, h1, h0, h1);
  }
  if (first != 0) return;
  const double c = to_f64(__uint_as_float(cmax[1]));
  const bool usable = c <= largest;                  // not if it is NaN
  const double constant = half_norm * (c * c / 2.0) + canonical_share * c * c + tiny * (1.0 + c) + least * (c + least);
  bound[0] = !certify ? -INFINITY_F : usable ? __double2float_ru(constant) : INFINITY_F;
  bound[1] = certify && usable ? __double2float_ru(product * c + tiny + least) : 0.f;
  bound[2] = certify && usable ? __double2float_ru(canonical_share) : 0.f;
}
