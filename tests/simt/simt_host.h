// Runs CUDA C++ kernel source on the CPU, one block at a time, so that kernels can be proved without a GPU.
//
// Every CUDA thread of a block is a fiber. Barriers and warp collectives are the points where fibers switch; a seed
// decides who runs next. The kernel is ordinary C++ with the names of cuda_names.h. Included before the .cu file:
//
//   g++ -std=c++17 -O2 ... -x c++ -include simt_host.h k.cu                        fast: results only
//   g++ -std=c++17 -O1 -g -fsanitize=thread -DSIMT_CHECK -x c++ -include ...       checked: every load and store comes to us
//
// The checked object is linked WITHOUT -fsanitize=thread: memory_checks.h supplies the hooks that the compiler calls.
// It cannot show: time, weak memory order, what ptxas does. Blocks run one after the other, so a kernel that needs two
// blocks at once (grid sync) cannot run. x86-64 only.
#pragma once
#define SIMT_HOST 1
#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <sys/mman.h>

#define SIMT_NOSAN __attribute__((no_sanitize("thread")))
#define SIMT_FN SIMT_NOSAN static inline

#include "fibers.h"
#include "collectives.h"
#include "memory_checks.h"
#include "launch.h"
#include "cuda_names.h"
#include "tensor_cores.h"
