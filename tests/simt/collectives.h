// __syncthreads and the warp collectives: shuffles, votes, __syncwarp.
#pragma once

namespace simt {
SIMT_FN void release_block() {
  B.bar_result = B.bar_pred;
  B.bar_pred = 0;
  B.at_barrier = 0;
  B.epoch++;
  for (unsigned i = 0; i < B.nthreads; i++) if (B.f[i].state == WAIT_BLOCK) wake(B.f[i]);
}
// Two source lines meeting at one barrier is what the hardware forbids: reported, although it would work here.
SIMT_NOSAN __attribute__((noinline)) static int block_sync(int pred, int line) {
  InRuntime guard;
  Fiber& f = *B.cur;
  if (B.at_barrier && int(B.bar_line) != line)
    fail("divergent __syncthreads: line %d while others wait at line %d", line, B.bar_line);
  if (B.alive < B.nthreads) fail("divergent __syncthreads: line %d after a thread of the block has returned", line);
  B.bar_line = line;
  B.bar_pred += pred;
  f.line = line;
  f.what = "__syncthreads";
  f.state = WAIT_BLOCK;
  if (++B.at_barrier == B.alive) release_block();
  resume_next();
  return B.bar_result;
}

// Deposit `in`, meet the other lanes of mask, let the last one run `combine` over all deposits, return this lane's result.
template <class In, class Out, class Op>
SIMT_FN Out collective(unsigned mask, const In& in, int line, const char* what, Op combine) {
  static_assert(sizeof(In) <= DEPOSIT && sizeof(Out) <= DEPOSIT);
  InRuntime guard;
  static const char op_id = 0;
  Fiber& f = *B.cur;
  Warp& w = B.w[f.warp];
  if (!(mask >> f.lane & 1)) fail("%s line %d: lane %u is not in its own mask %08x", what, line, f.lane, mask);
  Rendezvous* r = nullptr;
  for (auto* q : w.meetings) if (q->mask == mask) { r = q; break; }
  if (!r) { r = new Rendezvous; r->mask = mask; w.meetings.push_back(r); }
  if (!r->arrived) { r->line = line; r->op = &op_id; }
  else if (r->op != &op_id || r->line != line) fail("warp collective mismatch: %s line %d meets line %d", what, line, r->line);
  unsigned g = r->generation & 1;
  memcpy(r->in[g][f.lane], &in, sizeof in);
  r->arrived |= 1u << f.lane;
  if (r->arrived == mask) {
    combine(reinterpret_cast<unsigned char(*)[DEPOSIT]>(r->in[g]), reinterpret_cast<unsigned char(*)[DEPOSIT]>(r->out[g]));
    r->arrived = 0;
    r->generation++;
    unsigned full = (f.warp + 1) * WARP <= B.nthreads ? ~0u : (1u << (B.nthreads % WARP)) - 1;
    if ((mask & full) == full) w.sync_epoch++;
    for (unsigned l = 0; l < WARP; l++)
      if (mask >> l & 1 && l != f.lane) wake(B.f[f.warp * WARP + l]);
    if (B.cfg.seed) { B.ready.push_back(f.linear); resume_next(); }   // do not always favour the last
  } else {
    f.state = WAIT_WARP;
    f.line = line;
    f.what = what;
    resume_next();
  }
  Out o;
  memcpy(&o, r->out[g][f.lane], sizeof o);
  return o;
}
template <class T, class Op> SIMT_FN T shfl(unsigned mask, T v, int line, const char* what, int width, Op source) {
  struct In { T v; int source; };
  int l = B.cur->lane, base = l & ~(width - 1);
  In in{v, source(l - base, base)};
  return collective<In, T>(mask, in, line, what, [mask](auto* i, auto* o) SIMT_NOSAN {
    for (int l = 0; l < WARP; l++) if (mask >> l & 1) {
      In a;
      memcpy(&a, i[l], sizeof a);
      int s = a.source & 31;
      if (!(mask >> s & 1)) fail("shfl reads lane %d that is not in mask %08x", s, mask);
      memcpy(o[l], i[s], sizeof(T));
    }
  });
}
template <class Op> SIMT_FN unsigned vote(unsigned mask, unsigned v, int line, const char* what, Op f) {
  return collective<unsigned, unsigned>(mask, v, line, what, [mask, f](auto* i, auto* o) SIMT_NOSAN {
    unsigned u[WARP];
    for (int l = 0; l < WARP; l++) memcpy(&u[l], i[l], 4);
    for (int l = 0; l < WARP; l++) if (mask >> l & 1) { unsigned r = f(u, mask, l); memcpy(o[l], &r, 4); }
  });
}
}  // namespace simt
