// Matrix instructions and asynchronous copies of compute capability 8.0 and later: one PTX instruction a function.
//
// Fragments lie over the lanes as the PTX ISA says ("Warp Level Matrix Instructions"); g = lane / 4, t = lane % 4.
// What follows from a comparison of keys goes through PTX too: fminf of -ftz=true takes a subnormal for zero.
#pragma once
#include "exact.cuh"

constexpr int BF16 = 0, FP16 = 1, TF32 = 2;          // KIND: the type of the pass

#ifndef SIMT_HOST        // a test harness brings its own
// Shared memory by its 32-bit address. pin() ends the compiler's rewriting of a sum: what follows is base + immediate.
typedef unsigned Shared;
__device__ __forceinline__ Shared shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void pin(unsigned& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void pin(const char*& v) { asm volatile("" : "+l"(v)); }

// threadIdx.x, which the compiler does not know to be that.
__device__ __forceinline__ int thread_again() { int t; asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t)); return t; }

// 16 bytes from global to shared memory. They are there for this thread after the wait, for others after a barrier behind it.
__device__ __forceinline__ void cp_async16(Shared to, const char* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Wait for all but the N groups that were committed last.
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

__device__ __forceinline__ void load_x4(float (&r)[4], Shared p) {
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(r[0]), "=f"(r[1]), "=f"(r[2]), "=f"(r[3]) : "r"(p) : "memory");
}
// Four matrices of 8 rows x 16 bytes: lanes 8 i .. 8 i + 7 give the rows of matrix i, and r[i] is word t of its row g.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
// D = A B + C, m16n8k16 (TF32: m16n8k8), in float32. C apart from D: an accumulator starts at C without a move.
template <int KIND>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const float (&c)[4]) {
#define MMA(shape) asm("mma.sync.aligned." shape " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};" \
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), \
        "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]))
  if (KIND == BF16) MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  if (KIND == FP16) MMA("m16n8k16.row.col.f32.f16.f16.f32");
  if (KIND == TF32) MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
#undef MMA
}
// Rounded to nearest; 16-bit values two to a word, the first in the low half.
__device__ __forceinline__ unsigned to_tf32(float v) { unsigned r; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v)); return r; }
__device__ __forceinline__ unsigned to_bf16x2(float low, float high) {
  unsigned r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r;
}
__device__ __forceinline__ unsigned to_fp16x2(float low, float high) {
  unsigned r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r;
}

__device__ __forceinline__ float key_min(float a, float b) { float r; asm("min.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
__device__ __forceinline__ float key_max(float a, float b) { float r; asm("max.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
__device__ __forceinline__ int if_less(float a, float b, int yes, int no) {
  int r; asm("{.reg .pred p; setp.lt.f32 p, %1, %2; selp.s32 %0, %3, %4, p;}" : "=r"(r) : "f"(a), "f"(b), "r"(yes), "r"(no)); return r;
}
// (v & mask) | index in one instruction.
__device__ __forceinline__ unsigned and_or(unsigned v, unsigned mask, unsigned index) {
  unsigned r; asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(v), "r"(mask), "r"(index)); return r;
}
#endif

// The same of keys that are whole numbers.
__device__ __forceinline__ unsigned key_min(unsigned a, unsigned b) { return min(a, b); }
__device__ __forceinline__ unsigned key_max(unsigned a, unsigned b) { return max(a, b); }
__device__ __forceinline__ int if_less(unsigned a, unsigned b, int yes, int no) { return a < b ? yes : no; }

// One word of features in the type of the pass: two of 16 bits, or one of TF32.
template <int KIND> __device__ __forceinline__ unsigned word_of(float low, float high) {
  return KIND == BF16 ? to_bf16x2(low, high) : KIND == FP16 ? to_fp16x2(low, high) : to_tf32(low);
}
