// The threads of one block as fibers: state, switching, scheduling.
#pragma once

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };

namespace simt {
constexpr int WARP = 32, MAX_THREADS = 1024;
constexpr size_t STACK = 64 << 10, PAGE = 4096, SMEM_MAX = 256 << 10;

#if !defined(__x86_64__)
#error "simt_switch is written for x86-64"
#endif
// Saves the callee-saved registers and the stack pointer of one fiber, restores those of another.
extern "C" void simt_switch(void** save_sp, void* load_sp);
asm(R"(.text
.hidden simt_switch
.globl simt_switch
.type simt_switch,@function
simt_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size simt_switch,.-simt_switch
)");

struct Copy { char* to; const char* from; };
enum State : uint8_t { READY, WAIT_BLOCK, WAIT_WARP, DONE };
struct Fiber {
  void* sp;
  char* stack;
  uint3 tid;
  unsigned linear, lane, warp;
  State state;
  int line;            // where it waits
  const char* what;
  uint32_t fenced;     // epoch of its last __threadfence, 0: none
  const void* met;     // the word of its last atomic operation
  std::vector<Copy> copies;                 // cp.async: all of this block, the ends of groups, how many groups and copies are done
  std::vector<size_t> committed;
  size_t n_waited, n_copied;
};

constexpr size_t DEPOSIT = 48;   // bytes that a lane gives or gets
// One collective in flight for a mask of lanes; the last lane to arrive computes for all. Two buffers, because a lane
// may enter the next collective before another has read the result of this one.
struct Rendezvous {
  unsigned mask = 0, arrived = 0, generation = 0;
  int line = 0;
  const void* op = nullptr;
  alignas(16) unsigned char in[2][WARP][DEPOSIT], out[2][WARP][DEPOSIT];
};
struct Warp { std::vector<Rendezvous*> meetings; unsigned sync_epoch; };

struct Config { uint64_t seed; int check, yield_1_in; unsigned first_block; };
struct Block {
  dim3 grid, block;
  uint3 bid;
  unsigned nthreads, bid_linear;
  size_t smem_bytes;
  Fiber* cur;
  void* main_sp;
  Fiber f[MAX_THREADS];
  std::vector<Warp> w;
  std::vector<unsigned> ready;
  unsigned head, alive, at_barrier, bar_line, epoch;
  int bar_pred, bar_result;
  char *smem, *stacks;
  uint64_t rng;
  bool failed;
  std::vector<uint32_t> seen;      // of each block: what it did before that epoch is visible to this one
  uint32_t seen_at;    // epoch in which it became so, for thread seen_by
  unsigned seen_by;
  std::map<std::tuple<unsigned, size_t, unsigned>, std::vector<const char*>> copied;  // by warp, place in its order and group of 8 lanes
  bool user;           // kernel code is running, not this header
  void (*entry)(void**);
  void** args;
  Config cfg;
  char err[4096];
};
inline Block B;

struct InRuntime {
  bool saved;
  SIMT_NOSAN InRuntime() : saved(B.user) { B.user = false; }
  SIMT_NOSAN ~InRuntime() { B.user = saved; }
};

SIMT_FN unsigned rnd() { B.rng ^= B.rng << 13; B.rng ^= B.rng >> 7; B.rng ^= B.rng << 17; return unsigned(B.rng >> 11); }
SIMT_FN void to_main() { simt_switch(&B.cur->sp, B.main_sp); }

// The first failure is kept and ends the launch.
[[noreturn]] SIMT_NOSAN __attribute__((noinline)) static void fail(const char* fmt, ...) {
  if (!B.failed) {
    char m[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m, sizeof m, fmt, ap);
    va_end(ap);
    auto& c = *B.cur;
    snprintf(B.err, sizeof B.err, "%s [block (%u,%u,%u) thread (%u,%u,%u)]", m, B.bid.x, B.bid.y, B.bid.z, c.tid.x, c.tid.y, c.tid.z);
    B.failed = true;
  }
  to_main();
  abort();
}

// Next fiber to run: queue order for seed 0, otherwise a random ready one.
SIMT_FN unsigned pop_ready() {
  if (B.cfg.seed) std::swap(B.ready[B.head], B.ready[B.head + rnd() % (B.ready.size() - B.head)]);
  unsigned i = B.ready[B.head++];
  if (B.head > 4096) { B.ready.erase(B.ready.begin(), B.ready.begin() + B.head); B.head = 0; }
  return i;
}
SIMT_FN void resume_next() {          // called by a fiber that must wait
  if (B.head == B.ready.size()) { to_main(); return; }
  Fiber* me = B.cur;
  Fiber* next = &B.f[pop_ready()];
  if (next == me) return;
  B.cur = next;
  simt_switch(&me->sp, next->sp);
}
SIMT_FN void wake(Fiber& f) { f.state = READY; B.ready.push_back(f.linear); }
SIMT_FN void maybe_yield() {
  if (B.cfg.yield_1_in && rnd() % unsigned(B.cfg.yield_1_in) == 0) { B.ready.push_back(B.cur->linear); resume_next(); }
}
}  // namespace simt
