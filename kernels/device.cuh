// The few things that are PTX or pragmas: conversions and float32 arithmetic that never flush a subnormal.
//
// CuPy compiles with -ftz=true. It reaches float64 through the conversions ((double)x is cvt.ftz.f64.f32, which makes a
// subnormal x zero) and float32 through every operator, comparison and intrinsic, __fadd_rn included. What decides a
// bit of a result goes through the functions of this file or through float64.
#pragma once
#ifndef SIMT_HOST        // a test harness may bring its own
#define UNROLL _Pragma("unroll")
#define UNROLL_1 _Pragma("unroll 1")     // where registers, or what there is to compile, are worth more than fewer jumps
#define UNROLL_4 _Pragma("unroll 4")     // left alone the compiler unrolls far more and runs out of registers
extern __shared__ __align__(16) unsigned char dynamic_shared_[];
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(dynamic_shared_)
#define INFINITY_F __int_as_float(0x7f800000)

__device__ __forceinline__ double to_f64(float v) { double r; asm("cvt.f64.f32 %0, %1;" : "=d"(r) : "f"(v)); return r; }
__device__ __forceinline__ float half_to_f32(unsigned short v) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v)); return r; }
__device__ __forceinline__ float to_f32(double v) { float r; asm("cvt.rn.f32.f64 %0, %1;" : "=f"(r) : "d"(v)); return r; }
__device__ __forceinline__ float up_to_f32(double v) { float r; asm("cvt.rp.f32.f64 %0, %1;" : "=f"(r) : "d"(v)); return r; }
__device__ __forceinline__ float down_to_f32(double v) { float r; asm("cvt.rm.f32.f64 %0, %1;" : "=f"(r) : "d"(v)); return r; }
__device__ __forceinline__ float sub_rn(float a, float b) { float r; asm("sub.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
__device__ __forceinline__ float mul_rn(float a, float b) { float r; asm("mul.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
__device__ __forceinline__ float add_rn(float a, float b) { float r; asm("add.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
__device__ __forceinline__ float lower(float a, float b) { return fminf(a, b); }
__device__ __forceinline__ float higher(float a, float b) { return fmaxf(a, b); }
#endif

// The same names for float64, where nothing is ever flushed.
__device__ __forceinline__ double to_f64(double v) { return v; }
__device__ __forceinline__ double sub_rn(double a, double b) { return __dsub_rn(a, b); }
__device__ __forceinline__ double mul_rn(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double add_rn(double a, double b) { return __dadd_rn(a, b); }

// Rows of 16 bits as they are stored: where a value is used it is a float32, which has all values of 16 bits.
struct Float16 { unsigned short bits; __device__ __forceinline__ operator float() const { return half_to_f32(bits); } };
struct Bfloat16 { unsigned short bits; __device__ __forceinline__ operator float() const { return __uint_as_float((unsigned)bits << 16); } };

// What centers, origin and distances of rows of T are in: float for 16 bits, else T.
template <class T> using Computed = decltype(T() - T());

// use(x, shift) for rows of the type that a number says, where kernels for each type would be too many.
template <class Use> __device__ __forceinline__ void of_type(int type, const void* x, const void* shift, Use use) {
  if (type == 0) use((const float*)x, (const float*)shift);
  else if (type == 1) use((const double*)x, (const double*)shift);
  else if (type == 2) use((const Float16*)x, (const float*)shift);
  else use((const Bfloat16*)x, (const float*)shift);
}

// float64 rounded to the dtype of the data: round_to<float>(v), round_to<double>(v).
template <class T> __device__ __forceinline__ T round_to(double v);
template <> __device__ __forceinline__ float round_to<float>(double v) { return to_f32(v); }
template <> __device__ __forceinline__ double round_to<double>(double v) { return v; }
