// One launch: the blocks of the grid one after the other, in the order that the seed gives.
#pragma once

extern "C" char __start_simt_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_simt_shared[] __attribute__((weak, visibility("hidden")));

namespace simt {
SIMT_NOSAN static void fiber_main() {
  B.user = true;
  B.entry(B.args);
  B.user = false;
  Fiber& f = *B.cur;
  f.state = DONE;
  if (B.at_barrier) fail("divergent __syncthreads: a thread returns while others wait at line %d", B.bar_line);
  B.alive--;
  for (;;) {
    if (B.head < B.ready.size()) {
      Fiber* next = &B.f[pop_ready()];
      B.cur = next;
      void* unused;
      simt_switch(&unused, next->sp);
    } else to_main();
  }
}
// Shared memory starts as NaN: what was not written shows in results, too.
SIMT_FN void poison(char* p, size_t n) { for (size_t i = 0; i + 4 <= n; i += 4) { uint32_t v = 0x7fc0dead; memcpy(p + i, &v, 4); } }
SIMT_FN char* dynamic_shared() { return B.smem + SMEM_MAX - ((B.smem_bytes + 15) & ~size_t(15)); }   // ends at the guard page

SIMT_FN void map_memory() {
  if (B.stacks) return;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  B.stacks = (char*)mmap(0, STACK * MAX_THREADS, PROT_READ | PROT_WRITE, flags, -1, 0);
  // no guard pages between stacks: a thousand for each library would use up the mappings that a process may have
  B.smem = (char*)mmap(0, SMEM_MAX + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
  mprotect(B.smem + SMEM_MAX, PAGE, PROT_NONE);
}
SIMT_FN void prepare_block() {
  poison(dynamic_shared(), B.smem_bytes);
  static_alloc.lo = __start_simt_shared;
  static_alloc.hi = __stop_simt_shared;
  if (static_alloc.lo) poison(static_alloc.lo, static_alloc.hi - static_alloc.lo);
  if (B.cfg.check) {
    smem_alloc.lo = dynamic_shared();
    smem_alloc.hi = smem_alloc.lo + B.smem_bytes;
    smem_alloc.cells.assign((B.smem_bytes + 3) / 4, Cell{});
    bss_alloc[0] = {(char*)(uintptr_t(__bss_start) & ~uintptr_t(3)), (char*)&B, {}};
    bss_alloc[1] = {(char*)(&B + 1), _end, {}};
    for (Alloc* al : {&static_alloc, bss_alloc, bss_alloc + 1}) al->cells.assign((al->hi - al->lo + 3) / 4, Cell{});
  }
  B.epoch++;
  B.alive = B.nthreads;
  B.at_barrier = B.bar_pred = 0;
  B.head = 0;
  B.seen.clear();
  B.ready.clear();
  B.copied.clear();
  for (auto& w : B.w) { for (auto* r : w.meetings) r->arrived = 0; w.sync_epoch = 0; }
  for (unsigned i = 0; i < B.nthreads; i++) {
    Fiber& f = B.f[i];
    f.stack = B.stacks + STACK * i;
    f.linear = i; f.lane = i % WARP; f.warp = i / WARP;
    f.tid = {i % B.block.x, i / B.block.x % B.block.y, i / (B.block.x * B.block.y)};
    f.state = READY;
    f.fenced = 0;
    f.met = nullptr;
    f.copies.clear();
    f.committed.clear();
    f.n_waited = f.n_copied = 0;
    void** sp = (void**)(f.stack + STACK - 64);
    *--sp = nullptr;
    *--sp = (void*)fiber_main;
    f.sp = sp - 6;
    B.ready.push_back(i);
  }
}
SIMT_FN void report_deadlock() {
  size_t k = snprintf(B.err, sizeof B.err, "deadlock in block %u:", B.bid_linear);
  int shown = 0;
  for (unsigned i = 0; i < B.nthreads; i++)
    if (auto& f = B.f[i]; f.state != DONE && shown++ < 6)
      k += snprintf(B.err + k, 200, " thread %u waits at %s line %d;", f.linear, f.what, f.line);
  B.failed = true;
}
SIMT_FN int run_grid() {
  map_memory();
  B.failed = false;
  B.err[0] = 0;
  B.user = false;
  tickets.clear();
  B.w.resize((B.nthreads + WARP - 1) / WARP);
  B.rng = B.cfg.seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull;
  if (B.cfg.check) for (auto* a : allocs) a->cells.assign((a->hi - a->lo + 3) / 4, Cell{});
  unsigned nb = B.grid.x * B.grid.y * B.grid.z - B.cfg.first_block;
  std::vector<unsigned> order(nb);
  for (unsigned i = 0; i < nb; i++) order[i] = B.cfg.first_block + i;
  if (B.cfg.seed) for (unsigned i = nb; i > 1; i--) std::swap(order[i - 1], order[rnd() % i]);
  for (unsigned b : order) {
    B.bid_linear = b;
    B.bid = {b % B.grid.x, b / B.grid.x % B.grid.y, b / (B.grid.x * B.grid.y)};
    prepare_block();
    while (!B.failed && B.head < B.ready.size()) { B.cur = &B.f[pop_ready()]; simt_switch(&B.main_sp, B.cur->sp); }
    if (!B.failed && B.alive) report_deadlock();
    B.cur = nullptr;
    if (B.failed) break;
  }
  for (auto& w : B.w) { for (auto* r : w.meetings) delete r; w.meetings.clear(); }
  return B.failed;
}

// Unpacks void** into the kernel's own parameter types, and describes them ("p8 i4 f8 ...").
template <class> struct Sig;
template <class... A> struct Sig<void (*)(A...)> {
  template <void (*K)(A...), size_t... I> SIMT_FN void call(void** a, std::index_sequence<I...>) { K(*(std::decay_t<A>*)a[I]...); }
  template <void (*K)(A...)> SIMT_FN void entry(void** a) { call<K>(a, std::index_sequence_for<A...>{}); }
  template <class T> static constexpr char kind() {
    return std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? (std::is_signed_v<T> ? 'i' : 'u') : 's';
  }
  static void describe(char* out) { int n = 0; ((n += sprintf(out + n, "%c%zu ", kind<std::decay_t<A>>(), sizeof(std::decay_t<A>))), ...); }
};
struct LaunchArgs { unsigned grid[3], block[3]; uint64_t smem, seed; int check, yield_1_in; unsigned first_block; };
template <auto K> SIMT_FN int launch(const LaunchArgs* l, void** args) {
  B.grid = {l->grid[0], l->grid[1], l->grid[2]};
  B.block = {l->block[0], l->block[1], l->block[2]};
  B.nthreads = l->block[0] * l->block[1] * l->block[2];
  B.smem_bytes = l->smem;
  B.cfg = {l->seed, l->check, l->yield_1_in, l->first_block};
  B.args = args;
  B.entry = [](void** a) SIMT_NOSAN { Sig<decltype(K)>::template entry<K>(a); };
  if (!B.nthreads || B.nthreads > MAX_THREADS || l->smem > SMEM_MAX) { snprintf(B.err, sizeof B.err, "invalid launch configuration"); return 1; }
  return run_grid();
}
}  // namespace simt

// The builder appends one of these per kernel.
#define SIMT_EXPORT extern "C" __attribute__((used, visibility("default")))
#define SIMT_REGISTER(id, ...) \
  SIMT_EXPORT int simt_launch_##id(const simt::LaunchArgs* l, void** a) { return simt::launch<&__VA_ARGS__>(l, a); } \
  SIMT_EXPORT void simt_sig_##id(char* s) { simt::Sig<decltype(&__VA_ARGS__)>::describe(s); }
SIMT_EXPORT inline const char* simt_error() { return simt::B.err; }
SIMT_EXPORT inline void* simt_base() { return __ehdr_start; }
SIMT_EXPORT inline void simt_add_alloc(char* p, size_t n) {
  auto* a = new simt::Alloc{p, p + n, {}};
  simt::allocs.insert(std::upper_bound(simt::allocs.begin(), simt::allocs.end(), a, [](auto* x, auto* y) { return x->lo < y->lo; }), a);
}
SIMT_EXPORT inline void simt_clear_allocs() {
  for (auto* a : simt::allocs) delete a;
  simt::allocs.clear();
  simt::last_alloc = nullptr;
}
