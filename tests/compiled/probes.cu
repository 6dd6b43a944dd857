// Kernels of a line or two that show what the compiler makes of the functions of exact.cuh, and of the plain expressions
// that they stand for. Those (plain_*) are the control: the defect must be visible in them, or the test shows nothing.
#define PROBE extern "C" __global__ void

PROBE canonical_f4(const float* x, const float* c, double* o, int d) { *o = canonical(x, c, d); }
PROBE canonical_f8(const double* x, const double* c, double* o, int d) { *o = canonical(x, c, d); }
PROBE plain_distance(const float* x, const float* c, double* o, int d) {
  double a = 0;
  for (int j = 0; j < d; j++) { const double t = to_f64(x[j]) - to_f64(c[j]); a += t * t; }
  *o = a;
}

PROBE fixed_point(const double* y, const double* s, const double* w, long long* o, double* m) {
  const long long high = fixed_high(weighted(w, 0, *y), *s), low = fixed_low(*y, *s, high, s[1]);
  o[0] = high;
  o[1] = low;
  *m = mantissa(o[2], o[3], s[2]);
}
PROBE plain_mantissa(const long long* w, const double* s, double* o) { *o = (double)w[0] + (double)w[1] * *s; }

PROBE widen(const float* v, double* o) { *o = to_f64(*v); }
PROBE plain_widen(const float* v, double* o) { *o = (double)*v; }
PROBE narrow(const double* v, float* o) { *o = to_f32(*v); }
PROBE plain_narrow(const double* v, float* o) { *o = (float)*v; }

PROBE seed_square(const float* x, float* o) { const float t = sub_rn(x[0], x[1]); *o = add_rn(x[2], mul_rn(t, t)); }
PROBE plain_square(const float* x, float* o) { const float t = x[0] - x[1]; *o = x[2] + t * t; }

PROBE shared_add(u64* g, int i) {
  __shared__ unsigned low[32], high[32];
  low[threadIdx.x] = high[threadIdx.x] = 0;
  __syncthreads();
  add_shared(low + i, high + i, (long long)g[threadIdx.x]);
  __syncthreads();
  g[threadIdx.x] = (u64)high[threadIdx.x] << 32 | low[threadIdx.x];
}
PROBE plain_shared_add(u64* g, int i) {
  __shared__ u64 s[32];
  s[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(s + i, g[threadIdx.x]);
  __syncthreads();
  g[threadIdx.x] = s[threadIdx.x];
}
PROBE global_add(u64* g, long long v) { add_global(g + threadIdx.x, v); }
