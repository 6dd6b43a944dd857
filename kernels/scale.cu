// scale: values times a power of two, exactly; subnormals too, which -ftz=true would flush in a float product.
//
//   in    x (size) T; first, second: the power as a product of two (2^1034 is no float64; the second is 1 where one will do)
//   out   y (size) Computed<T>; may be x where that is T
//   launch  any number of blocks of SCALE_THREADS; no shared memory
//   traffic X once, y once
//   instances  scale_values<T>, T = float, double, Float16, Bfloat16
#include "exact.cuh"

constexpr int SCALE_THREADS = 256;

template <class T> __global__ void __launch_bounds__(SCALE_THREADS)
scale_values(const T* x, Computed<T>* y, double first, double second, long long size) {
  for (long long i = (long long)blockIdx.x * SCALE_THREADS + threadIdx.x; i < size; i += (long long)gridDim.x * SCALE_THREADS)
    y[i] = round_to<Computed<T>>(__dmul_rn(__dmul_rn(to_f64(x[i]), first), second));
}
