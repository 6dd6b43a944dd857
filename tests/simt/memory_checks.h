// Checked mode: every load and store of kernel code is compared with what is allocated and with who touched it before.
//
// Reported: outside every allocation, past its end, misaligned, shared memory read before it was written, another
// thread's local variable, and races: two accesses of one word, one of them a write, not both atomic, with no barrier
// between. Order comes from the block's barriers (epoch) and, within a warp, from full-mask collectives (sync_epoch).
// Between blocks it comes from tickets: __threadfence and then an atomic operation on a word, and in the other block an
// atomic operation on that word and then __threadfence.
#pragma once

#define SIMT_OF_LIBRARY __attribute__((visibility("hidden")))
extern "C" char __ehdr_start[] SIMT_OF_LIBRARY, __bss_start[] SIMT_OF_LIBRARY, _end[] SIMT_OF_LIBRARY;

namespace simt {
// One 4-byte word: the last writer and the last reader, and how widely it has been read since the last write.
enum Readers : uint8_t { ONE, ONE_WARP, ONE_BLOCK, MANY_BLOCKS };
struct Cell { uint32_t w, r, we, re, wwe, rwe; uint8_t w_atomic, r_atomic, readers, has_w, has_r; };
struct Alloc { char *lo, *hi; std::vector<Cell> cells; };
inline std::vector<Alloc*> allocs;            // sorted by address
inline Alloc smem_alloc, static_alloc;
// g++ puts static variables of templates into .bss and not into the section of __shared__ (its bug 41091). What a kernel
// touches there is shared memory, too, except for B, which lies between these two.
inline Alloc bss_alloc[2];
inline Alloc* last_alloc;

// What blocks had done when they took a ticket: the word, the block, the epoch of its fence and its thread.
struct Ticket { unsigned block; uint32_t epoch, thread; };
inline std::map<const void*, std::vector<Ticket>> tickets;
inline std::vector<uint32_t> releasers;       // of each block that is seen: the thread that took the ticket
SIMT_FN void met(const void* p) {
  B.cur->met = p;
  if (B.cur->fenced) tickets[p].push_back({B.bid_linear, B.cur->fenced, B.cur->linear});
}
SIMT_FN void fence() {
  if (!B.cfg.check) return;
  InRuntime guard;
  B.cur->fenced = B.epoch;
  const unsigned blocks = B.grid.x * B.grid.y * B.grid.z;
  for (auto& t : tickets[B.cur->met]) if (t.block != B.bid_linear) {
    B.seen.resize(blocks), releasers.resize(blocks);
    B.seen[t.block] = t.epoch, releasers[t.block] = t.thread;
    B.seen_at = B.epoch, B.seen_by = B.cur->linear;
  }
}
// Whether a ticket of another block tells this thread of what was done there before an epoch.
SIMT_FN bool told(unsigned block, unsigned thread, uint32_t epoch) {
  if (B.seen.empty() || !(B.seen_at < B.epoch || B.seen_by == B.cur->linear)) return false;
  return epoch < B.seen[block] || (thread == releasers[block] && epoch == B.seen[block]);
}
// Whether all other blocks have taken tickets that this thread knows of.
SIMT_FN bool told_by_all() {
  if (B.seen.empty() || !(B.seen_at < B.epoch || B.seen_by == B.cur->linear)) return false;
  for (unsigned b = 0; b < B.seen.size(); b++) if (b != B.bid_linear && !B.seen[b]) return false;
  return true;
}

// Whether a barrier lies between what thread `thr` did at (epoch, warp epoch) and now.
SIMT_FN bool ordered(uint32_t thr, uint32_t epoch, uint32_t warp_epoch) {
  uint32_t me = B.bid_linear * B.nthreads + B.cur->linear;
  if (thr == me) return true;
  if (thr / B.nthreads != B.bid_linear) return told(thr / B.nthreads, thr % B.nthreads, epoch);
  if (epoch != B.epoch) return true;
  unsigned warp = thr % B.nthreads / WARP;
  return warp == B.cur->warp && warp_epoch != B.w[warp].sync_epoch;
}
SIMT_FN bool reads_ordered(const Cell& c, uint32_t me) {
  if (c.readers == MANY_BLOCKS) return c.re != B.epoch && told_by_all();
  if (c.r / B.nthreads != B.bid_linear) return told(c.r / B.nthreads, c.r % B.nthreads, c.re);
  if (c.readers == ONE_BLOCK) return c.re != B.epoch;
  if (c.readers == ONE_WARP) return ordered(c.r == me ? c.r ^ 1 : c.r, c.re, c.rwe);
  return ordered(c.r, c.re, c.rwe);
}
SIMT_FN void touch(Cell& c, const void* p, bool write, bool atomic, bool shared, void* pc) {
  uint32_t me = B.bid_linear * B.nthreads + B.cur->linear, warp_epoch = B.w[B.cur->warp].sync_epoch;
  auto race = [&](const char* kind, uint32_t o) SIMT_NOSAN {
    fail("%s race in %s memory at %p: thread %u then thread %u of block %u, pc %p", kind, shared ? "shared" : "global", p,
         o % B.nthreads, B.cur->linear, B.bid_linear, pc);
  };
  if (c.has_w && !(c.w_atomic && atomic) && !ordered(c.w, c.we, c.wwe)) race(write ? "write-write" : "write-read", c.w);
  if (shared && !write && !c.has_w) fail("read of uninitialised shared memory at %p, pc %p", p, pc);
  if (write) {
    if (c.has_r && !(c.r_atomic && atomic) && !reads_ordered(c, me)) race("read-write", c.r);
    c.w = me; c.we = B.epoch; c.wwe = warp_epoch; c.w_atomic = atomic; c.has_w = 1; c.has_r = 0; c.readers = ONE;
  } else {
    if (c.has_r && c.readers != MANY_BLOCKS && !ordered(c.r, c.re, c.rwe))
      c.readers = c.r / B.nthreads != B.bid_linear ? MANY_BLOCKS : c.r / WARP == me / WARP && c.readers < ONE_BLOCK ? ONE_WARP : ONE_BLOCK;
    else if (c.readers != MANY_BLOCKS && c.r != me) c.readers = ONE;
    c.r = me; c.re = B.epoch; c.rwe = warp_epoch; c.r_atomic = atomic; c.has_r = 1;
  }
}

SIMT_FN Alloc* find_alloc(char* a, bool& shared) {
  shared = true;
  if (a >= B.smem && a < B.smem + SMEM_MAX + PAGE) return &smem_alloc;
  for (Alloc* al : {&static_alloc, bss_alloc, bss_alloc + 1}) if (a >= al->lo && a < al->hi) return al;
  shared = false;
  if (last_alloc && a >= last_alloc->lo && a < last_alloc->hi) return last_alloc;
  auto it = std::upper_bound(allocs.begin(), allocs.end(), a, [](char* x, Alloc* y) { return x < y->lo; });
  if (it != allocs.begin() && a < (*--it)->hi) return last_alloc = *it;
  return nullptr;
}
SIMT_NOSAN __attribute__((noinline)) static void access(const void* p, unsigned n, bool write, bool atomic, void* pc) {
  if (!B.user || !B.cfg.check || B.failed) return;
  InRuntime guard;
  char* a = (char*)p;
  if (a >= B.stacks && a < B.stacks + STACK * MAX_THREADS) {
    if (a < B.cur->stack || a >= B.cur->stack + STACK) fail("access to another thread's local variable, pc %p", pc);
    return;
  }
  bool shared;
  Alloc* al = find_alloc(a, shared);
  const char* verb = write ? "write" : "read";
  if (!al) {
    if (a >= __ehdr_start && a < _end) return;                      // constants of this library
    fail("%s of %u bytes at %p is outside every allocation, pc %p", verb, n, p, pc);
  }
  if (a < al->lo || a + n > al->hi)
    fail("%s of %u bytes at %p runs past its %s allocation (%zu bytes, offset %zd), pc %p", verb, n, p, shared ? "shared" : "global",
         size_t(al->hi - al->lo), a - al->lo, pc);
  if (uintptr_t(a) % n && (n & (n - 1)) == 0) fail("misaligned %u-byte access at %p, pc %p", n, p, pc);
  if (atomic && write) met(p);
  for (unsigned o = 0; o < n; o += 4) touch(al->cells[(a + o - al->lo) >> 2], a + o, write, atomic, shared, pc);
  maybe_yield();
}
}  // namespace simt

#ifdef SIMT_CHECK   // the compiler's instrumentation calls these; no sanitizer runtime is linked
#define SIMT_HOOK(name, n, write, atomic) \
  extern "C" SIMT_NOSAN __attribute__((used)) void __tsan_##name##n(void* p) { simt::access(p, n, write, atomic, __builtin_return_address(0)); }
#define SIMT_HOOKS(n) \
  SIMT_HOOK(read, n, 0, 0) SIMT_HOOK(write, n, 1, 0) SIMT_HOOK(unaligned_read, n, 0, 0) SIMT_HOOK(unaligned_write, n, 1, 0) \
  SIMT_HOOK(volatile_read, n, 0, 1) SIMT_HOOK(volatile_write, n, 1, 1)
SIMT_HOOKS(1) SIMT_HOOKS(2) SIMT_HOOKS(4) SIMT_HOOKS(8) SIMT_HOOKS(16)
extern "C" SIMT_NOSAN __attribute__((used)) void __tsan_read_range(void* p, size_t n) { simt::access(p, unsigned(n), 0, 0, __builtin_return_address(0)); }
extern "C" SIMT_NOSAN __attribute__((used)) void __tsan_write_range(void* p, size_t n) { simt::access(p, unsigned(n), 1, 0, __builtin_return_address(0)); }
extern "C" SIMT_NOSAN __attribute__((used)) void __tsan_init() {}
extern "C" SIMT_NOSAN __attribute__((used)) void __tsan_func_entry(void*) {}
extern "C" SIMT_NOSAN __attribute__((used)) void __tsan_func_exit() {}
#define SIMT_ATOMIC(p) simt::access((void*)(p), sizeof(*(p)), 1, 1, __builtin_return_address(0))
#else
#define SIMT_ATOMIC(p) simt::maybe_yield()
#endif
