// The names of CUDA C++ that the kernels use, as ordinary C++. Macros where the source line must be known.
#pragma once
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("simt_shared"), aligned(16)))

template <class T> struct alignas(2 * sizeof(T)) simt_v2 { T x, y; };
template <class T> struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) simt_v4 { T x, y, z, w; };
using float4 = simt_v4<float>;
using double2 = simt_v2<double>;
// instrumented, unlike the rest: it may build its result in place, in shared memory
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

#define threadIdx (::simt::B.cur->tid)
#define blockIdx (::simt::B.bid)
#define blockDim (::simt::B.block)
#define gridDim (::simt::B.grid)
#define __syncthreads() ((void)::simt::block_sync(0, __LINE__))
#define __syncthreads_or(p) (::simt::block_sync(!!(p), __LINE__) != 0)
#define SIMT_1ST(a, ...) a
#define SIMT_MASK(...) SIMT_1ST(__VA_OPT__(__VA_ARGS__,) 0xffffffffu)
#define SIMT_WIDTH(w, ...) SIMT_1ST(__VA_OPT__(__VA_ARGS__,) 32)
#define __syncwarp(...) ((void)::simt::vote(SIMT_MASK(__VA_ARGS__), 0, __LINE__, "__syncwarp", [](unsigned*, unsigned, int) { return 0u; }))
#define SIMT_SHFL(name, m, v, s, w, body) \
  (::simt::shfl(m, v, __LINE__, name, w, [a = int(s), wd = int(w)](int l, int b) { (void)l; return b + (body); }))
#define __shfl_sync(m, v, s, ...) SIMT_SHFL("__shfl_sync", m, v, s, SIMT_WIDTH(0, __VA_ARGS__), a & (wd - 1))
#define __shfl_xor_sync(m, v, s, ...) SIMT_SHFL("__shfl_xor_sync", m, v, s, SIMT_WIDTH(0, __VA_ARGS__), (l ^ a) < wd ? l ^ a : l)
#define __shfl_down_sync(m, v, s, ...) SIMT_SHFL("__shfl_down_sync", m, v, s, SIMT_WIDTH(0, __VA_ARGS__), l + a < wd ? l + a : l)
#define __shfl_up_sync(m, v, s, ...) SIMT_SHFL("__shfl_up_sync", m, v, s, SIMT_WIDTH(0, __VA_ARGS__), l >= a ? l - a : l)
#define SIMT_VOTE(name, m, v, body) \
  (::simt::vote(m, unsigned(v), __LINE__, name, [](unsigned* u, unsigned mk, int) -> unsigned { unsigned r = 0; for (int l = 0; l < 32; l++) if (mk >> l & 1) { body; } return r; }))
#define __ballot_sync(m, p) SIMT_VOTE("__ballot_sync", m, !!(p), r |= u[l] << l)
#define __any_sync(m, p) int(SIMT_VOTE("__any_sync", m, !!(p), r |= u[l]))

#define __threadfence() (::simt::fence())

// A relaxed read-modify-write of one word. No std::min here: it would be instrumented and read the word plainly.
template <class T> SIMT_FN T simt_exchange(T* p, T v) { T old = *p; *p = v; return old; }
template <class T, class U> SIMT_FN T atomicAdd(T* p, U v) { SIMT_ATOMIC(p); return simt_exchange<T>(p, T(*p + T(v))); }
template <class T, class U> SIMT_FN T atomicMin(T* p, U v) { SIMT_ATOMIC(p); return simt_exchange<T>(p, T(v) < *p ? T(v) : *p); }
template <class T, class U> SIMT_FN T atomicMax(T* p, U v) { SIMT_ATOMIC(p); return simt_exchange<T>(p, T(v) > *p ? T(v) : *p); }
template <class T, class U> SIMT_FN T atomicExch(T* p, U v) { SIMT_ATOMIC(p); return simt_exchange<T>(p, T(v)); }
template <class T, class U> SIMT_FN T atomicOr(T* p, U v) { SIMT_ATOMIC(p); return simt_exchange<T>(p, T(*p | T(v))); }

template <class To, class From> SIMT_FN To simt_bits(From f) { static_assert(sizeof(To) == sizeof(From)); To t; memcpy(&t, &f, sizeof t); return t; }
SIMT_FN int __float_as_int(float f) { return simt_bits<int>(f); }
SIMT_FN unsigned __float_as_uint(float f) { return simt_bits<unsigned>(f); }
SIMT_FN float __int_as_float(int i) { return simt_bits<float>(i); }
SIMT_FN float __uint_as_float(unsigned i) { return simt_bits<float>(i); }
SIMT_FN long long __double_as_longlong(double v) { return simt_bits<long long>(v); }
SIMT_FN double __longlong_as_double(long long v) { return simt_bits<double>(v); }
SIMT_FN int __popc(unsigned v) { return __builtin_popcount(v); }

// Plain operations: the kernels are compiled with -ffp-contract=off, so each one rounds on its own.
SIMT_FN float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
SIMT_FN double __dadd_rn(double a, double b) { return a + b; }
SIMT_FN double __dsub_rn(double a, double b) { return a - b; }
SIMT_FN double __dmul_rn(double a, double b) { return a * b; }
SIMT_FN double __ddiv_rn(double a, double b) { return a / b; }
SIMT_FN double __dsqrt_rn(double v) { return __builtin_sqrt(v); }
SIMT_FN double __ll2double_rn(long long v) { return double(v); }
SIMT_FN long long __double2ll_rn(double v) { return llrint(v); }
SIMT_FN float __double2float_ru(double v) { float f = float(v); return double(f) < v ? nextafterf(f, INFINITY) : f; }
SIMT_FN double simt_lost(double a, double b, double sum) { double part = sum - a; return (a - (sum - part)) + (b - part); }   // a + b - sum
SIMT_FN double __dadd_ru(double a, double b) { double s = a + b; return simt_lost(a, b, s) > 0 ? nextafter(s, INFINITY) : s; }
SIMT_FN double __dadd_rd(double a, double b) { double s = a + b; return simt_lost(a, b, s) < 0 ? nextafter(s, -INFINITY) : s; }

// By value, and one type at a time: a mixed call, which CUDA would resolve in its own way, does not compile.
#define SIMT_MINMAX(T) SIMT_FN T min(T a, T b) { return b < a ? b : a; } SIMT_FN T max(T a, T b) { return a < b ? b : a; }
SIMT_MINMAX(int) SIMT_MINMAX(unsigned) SIMT_MINMAX(long long) SIMT_MINMAX(unsigned long long)

// What kernels/device.cuh says in PTX and pragmas, said for g++.
#define UNROLL _Pragma("GCC unroll 4")      // 16 takes twice as long to build for nothing
#define UNROLL_1
#define UNROLL_4 _Pragma("GCC unroll 4")
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(simt::dynamic_shared())
#define INFINITY_F __builtin_inff()
SIMT_FN double to_f64(float v) { return double(v); }
SIMT_FN float to_f32(double v) { return float(v); }
SIMT_FN float half_to_f32(unsigned short v) { return float(simt_bits<_Float16>(v)); }
SIMT_FN float up_to_f32(double v) { return __double2float_ru(v); }
SIMT_FN float down_to_f32(double v) { float f = float(v); return double(f) > v ? nextafterf(f, -INFINITY) : f; }
SIMT_FN float sub_rn(float a, float b) { return a - b; }
SIMT_FN float mul_rn(float a, float b) { return a * b; }
SIMT_FN float add_rn(float a, float b) { return a + b; }
SIMT_FN float lower(float a, float b) { return b < a ? b : a; }      // fminf would be a library call
SIMT_FN float higher(float a, float b) { return b > a ? b : a; }
