// What kernels/tensor.cuh says in PTX, said for g++: matrix instructions, asynchronous copies, rounding, keys.
//
// The fragment layouts are those of the PTX ISA; tests/test_tensor_cores.py holds them to its formulas. How the hardware adds
// is not documented, so three models bracket it (set_rounding): each mma's sum exact and rounded once; truncated after each
// product; blocks of 4 products and the accumulator, aligned to the largest of them, truncated to 24 bits and added.
#pragma once

namespace simt {
inline int rounding = 0;                             // 0, 1, 2: as above
// Groups of 8 lanes that read or write 16 bytes each, and the clocks that shared memory takes for them: equal without conflicts.
inline uint64_t groups = 0, clocks = 0;              // counted in checked mode
SIMT_FN void count_banks(const char* const* pieces, int n) {
  if (!B.cfg.check) return;
  unsigned words[32] = {}, most = 1;
  for (int i = 0; i < n; i++) {
    bool again = false;
    for (int j = 0; j < i; j++) again |= pieces[j] == pieces[i];             // one word for several lanes is read once
    if (!again) for (int w = 0; w < 4; w++) { unsigned& of_bank = words[(uintptr_t(pieces[i]) / 4 + w) % 32]; if (++of_bank > most) most = of_bank; }
  }
  groups++;
  clocks += most;
}

SIMT_FN float truncated(double v) {
  float f = float(v);
  return fabs(double(f)) > fabs(v) ? nextafterf(f, 0.f) : f;
}
SIMT_FN float add_up(float c, const float* a, const float* b, int n) {       // c + a.b
  if (rounding == 0) {
    double sum = c;
    for (int i = 0; i < n; i++) sum += double(a[i]) * double(b[i]);
    return float(sum);
  }
  if (rounding == 1) {
    for (int i = 0; i < n; i++) c = truncated(double(c) + double(a[i]) * double(b[i]));
    return c;
  }
  for (int i = 0; i < n; i += 4) {
    double v[5] = {c, 0, 0, 0, 0}, most = fabs(double(c)), sum = 0;
    for (int j = 0; j < 4; j++) { v[j + 1] = double(a[i + j]) * double(b[i + j]); if (fabs(v[j + 1]) > most) most = fabs(v[j + 1]); }
    int exponent;
    frexp(most, &exponent);
    const double unit = ldexp(1.0, exponent - 24);
    for (double x : v) sum += most < INFINITY ? trunc(x / unit) * unit : x;
    c = truncated(sum);
  }
  return c;
}
SIMT_FN float value_of(int kind, unsigned word, int half) {
  const uint16_t h = uint16_t(word >> 16 * half);
  if (kind == 2) word &= 0xffffe000u;
  if (kind == 0) word = unsigned(h) << 16;
  float f;
  memcpy(&f, &word, 4);
  if (kind == 1) { _Float16 v; memcpy(&v, &h, 2); f = float(v); }
  return f;
}
template <int KIND> struct Fragments {
  static constexpr int K = KIND == 2 ? 8 : 16, PER_WORD = KIND == 2 ? 1 : 2;
  unsigned a[4], b[2];
  float c[4];
  SIMT_NOSAN void place(int lane, float (*A)[16], float (*B)[16]) const {    // A by row, B by column
    const int g = lane / 4, t = lane % 4;
    for (int h = 0; h < PER_WORD; h++) {
      for (int q = 0; q < 4; q++) A[g + q % 2 * 8][t * PER_WORD + h + q / 2 * (K / 2)] = value_of(KIND, a[q], h);
      for (int q = 0; q < 2; q++) B[g][t * PER_WORD + h + q * (K / 2)] = value_of(KIND, b[q], h);
    }
  }
};
}  // namespace simt

template <int KIND> SIMT_FN void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const float (&c)[4]) {
  using In = simt::Fragments<KIND>;
  struct Out { float d[4]; };
  const In in{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  const Out out = simt::collective<In, Out>(~0u, in, __LINE__, "mma", [](auto* given, auto* results) SIMT_NOSAN {
    float A[16][16], B[8][16];
    In of_lane[32];
    for (int l = 0; l < 32; l++) { memcpy(&of_lane[l], given[l], sizeof(In)); of_lane[l].place(l, A, B); }
    for (int l = 0; l < 32; l++) {
      Out o;
      for (int e = 0; e < 4; e++) o.d[e] = simt::add_up(of_lane[l].c[e], A[l / 4 + e / 2 * 8], B[l % 4 * 2 + e % 2], In::K);
      memcpy(results[l], &o, sizeof o);
    }
  });
  memcpy(d, out.d, sizeof out.d);
}

using Shared = const char*;
SIMT_FN Shared shared_address(const void* p) { return (const char*)p; }
SIMT_FN void pin(const char*&) {}
SIMT_FN int thread_again() { return threadIdx.x; }

#ifdef SIMT_CHECK
#define SIMT_TOUCH(p, n, write) simt::access(p, n, write, false, __builtin_return_address(0))
#else
#define SIMT_TOUCH(p, n, write) ((void)0)
#endif

// Both loads are of the whole warp, so that the banks of lanes that read at once can be counted.
SIMT_FN void ldmatrix_x4(unsigned (&r)[4], Shared row) {
  struct Out { unsigned r[4]; };
  if (uintptr_t(row) % 16) simt::fail("ldmatrix: misaligned row");
  SIMT_TOUCH(row, 16, false);
  const Out out = simt::collective<Shared, Out>(~0u, row, __LINE__, "ldmatrix", [](auto* given, auto* results) SIMT_NOSAN {
    Shared rows[32];
    for (int l = 0; l < 32; l++) memcpy(&rows[l], given[l], sizeof rows[l]);
    for (int i = 0; i < 4; i++) simt::count_banks(rows + 8 * i, 8);
    for (int l = 0; l < 32; l++) for (int i = 0; i < 4; i++) memcpy(results[l] + 4 * i, rows[8 * i + l / 4] + l % 4 * 4, 4);
  });
  memcpy(r, out.r, sizeof out.r);
}
SIMT_FN void load_x4(float (&r)[4], Shared p) {
  if (uintptr_t(p) % 16) simt::fail("ld.shared.v4: misaligned address");
  SIMT_TOUCH(p, 16, false);
  memcpy(r, p, 16);
  simt::collective<Shared, int>(~0u, p, __LINE__, "ld.shared.v4", [](auto* given, auto* results) SIMT_NOSAN {
    Shared pieces[32];
    for (int l = 0; l < 32; l++) { memcpy(&pieces[l], given[l], sizeof pieces[l]); memset(results[l], 0, 4); }
    for (int i = 0; i < 4; i++) simt::count_banks(pieces + 8 * i, 8);
  });
}

// A copy is made when it is waited for, and poison lies there until then: a wait that is forgotten shows.
SIMT_FN void cp_async16(Shared to, const char* from) {
  if (uintptr_t(to) % 16 || uintptr_t(from) % 16) simt::fail("cp.async: misaligned address");
  SIMT_TOUCH(from, 16, false);
  SIMT_TOUCH(to, 16, true);
  simt::InRuntime guard;
  simt::Fiber& f = *simt::B.cur;
  if (simt::B.cfg.check) {
    auto& group = simt::B.copied[{f.warp, f.copies.size(), f.lane / 8}];     // its lanes come here one after the other
    group.push_back(to);
    if (group.size() == 8) simt::count_banks(group.data(), 8);
  }
  f.copies.push_back({(char*)to, from});
  simt::poison((char*)to, 16);
}
SIMT_FN void cp_async_commit() {
  simt::InRuntime guard;
  simt::B.cur->committed.push_back(simt::B.cur->copies.size());
}
template <int N> SIMT_FN void cp_async_wait() {
  simt::Fiber& f = *simt::B.cur;
  while (f.committed.size() - f.n_waited > N) {
    const size_t end = f.committed[f.n_waited++];
    for (; f.n_copied < end; f.n_copied++) {
      SIMT_TOUCH(f.copies[f.n_copied].to, 16, true);
      memcpy(f.copies[f.n_copied].to, f.copies[f.n_copied].from, 16);
    }
  }
}

SIMT_FN unsigned to_tf32(float v) {                  // ties away from zero
  const unsigned u = __float_as_uint(v);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & 0xffffe000u;
}
SIMT_FN unsigned to_bf16(float v) {                  // ties to even
  const unsigned u = __float_as_uint(v);
  return v != v ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1)) >> 16;
}
SIMT_FN unsigned to_bf16x2(float low, float high) { return to_bf16(low) | to_bf16(high) << 16; }
SIMT_FN unsigned to_fp16x2(float low, float high) {
  return simt_bits<uint16_t>(_Float16(low)) | unsigned(simt_bits<uint16_t>(_Float16(high))) << 16;
}
SIMT_FN float key_min(float a, float b) { return a < b || b != b ? a : b; }  // a NaN is dropped
SIMT_FN float key_max(float a, float b) { return a > b || b != b ? a : b; }
SIMT_FN int if_less(float a, float b, int yes, int no) { return a < b ? yes : no; }
SIMT_FN unsigned and_or(unsigned v, unsigned mask, unsigned index) { return (v & mask) | index; }

SIMT_EXPORT inline void simt_set_rounding(int model) { simt::rounding = model; }
// Groups of lanes that used shared memory in these functions since the last call, and the clocks that it took.
SIMT_EXPORT inline void simt_banks(uint64_t* out) { out[0] = simt::groups; out[1] = simt::clocks; simt::groups = simt::clocks = 0; }
