// The part of CUDA that csrc/cuda/device.h gives the kernels, on a CPU: every CUDA thread is a fiber that runs until its next
// barrier. Shared memory is full of NaN before a launch, and fenced. In which order the threads run between two barriers is a
// choice: a result that depends on it is a barrier that is missing.
#pragma once
#undef _FORTIFY_SOURCE  // it takes a jump to another stack for an attack
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(threads, blocks)

struct Index {
  unsigned x;
};

inline Index threadIdx, blockIdx, gridDim;

namespace fastift {

struct Machine {
  int64_t blocks_at_a_time = 3;
  int order = 0;  // of threads between barriers: 0 first to last, 1 last to first, else shuffled with this seed
  size_t shared_limit = 99 * 1024;

  enum State { READY, AT_BLOCK, AT_GRID, DONE };
  struct Fiber {
    ucontext_t context;  // to start; from then on jumps, which need no system call
    jmp_buf here;
    bool started;
    unsigned block, thread;
    State state;
    std::unique_ptr<char[]> stack;
  };
  std::vector<Fiber> fibers;
  std::vector<std::vector<unsigned char>> shared;  // of each block
  jmp_buf scheduler;
  Fiber* running = nullptr;
  std::function<void()> body;
  unsigned first_block = 0;

  // As CUDA's is.
  static unsigned char* aligned(std::vector<unsigned char>& bytes) {
    return bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
  }

  void wait(State state) {
    running->state = state;
    if (_setjmp(running->here) == 0) _longjmp(scheduler, 1);
  }

  // Until it waits.
  __attribute__((noinline)) void resume(Fiber& f) {
    running = &f;
    threadIdx = {f.thread};
    blockIdx = {first_block + f.block};
    if (_setjmp(scheduler) != 0) return;
    if (f.started) _longjmp(f.here, 1);
    f.started = true;
    setcontext(&f.context);
  }

  // Blocks [first, first + blocks), which may meet at grid barriers if they are all blocks of the launch.
  const char* run(unsigned first, unsigned blocks, unsigned threads, size_t bytes, bool meet);
};

inline Machine& machine() {
  static Machine one;
  return one;
}

inline void start_fiber() {
  machine().body();
  machine().wait(Machine::DONE);
}

inline const char* Machine::run(unsigned first, unsigned blocks, unsigned threads, size_t bytes, bool meet) {
  constexpr size_t STACK = 48 * 1024, FENCE = 256, ALIGNED = 64;
  const unsigned char fence = 0xa5;
  first_block = first;
  shared.clear();
  for (unsigned b = 0; b < blocks; b++) {
    shared.emplace_back(bytes + FENCE + ALIGNED, fence);
    std::memset(aligned(shared.back()), 0xff, bytes);
  }
  while (fibers.size() < blocks * threads) {
    fibers.emplace_back();
    fibers.back().stack.reset(new char[STACK]);
  }
  std::vector<size_t> turns(blocks * threads);
  std::iota(turns.begin(), turns.end(), 0);
  std::mt19937 random(order);
  for (size_t i : turns) {
    Fiber& f = fibers[i];
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, start_fiber, 0);
    f.block = i / threads;
    f.thread = i % threads;
    f.state = READY;
    f.started = false;
  }
  if (order == 1) std::reverse(turns.begin(), turns.end());
  for (;;) {
    if (order > 1) std::shuffle(turns.begin(), turns.end(), random);
    std::vector<unsigned> at_block(blocks, 0);
    size_t at_grid = 0, done = 0;
    for (size_t i : turns) {
      Fiber& f = fibers[i];
      if (f.state == READY) resume(f);
      at_block[f.block] += f.state == AT_BLOCK;
      at_grid += f.state == AT_GRID;
      done += f.state == DONE;
    }
    if (done == turns.size()) break;
    bool released = false;
    for (size_t i : turns) {
      Fiber& f = fibers[i];
      const bool free = (f.state == AT_BLOCK && at_block[f.block] == threads) ||
                        (f.state == AT_GRID && meet && at_grid == turns.size());
      if (free) f.state = READY;
      released |= free;
    }
    if (!released) return "some threads wait at a barrier that others never reach";
  }
  for (auto& block : shared)
    for (size_t i = 0; i < FENCE; i++)
      if (aligned(block)[bytes + i] != fence) return "a kernel wrote past its shared memory";
  return nullptr;
}

inline unsigned char* shared_memory() {
  Machine& m = machine();
  return m.aligned(m.shared[blockIdx.x - m.first_block]);
}

inline void grid_barrier() { machine().wait(Machine::AT_GRID); }

template <typename Task>
const char* launch(void (*kernel)(Task), Task task, int64_t blocks, int threads, size_t shared, bool meet, void*) {
  Machine& m = machine();
  if (shared > m.shared_limit) return "the kernel asks for more shared memory than every card has";
  if (meet) blocks = std::min(blocks, m.blocks_at_a_time);
  m.body = [kernel, task] { kernel(task); };
  gridDim = {static_cast<unsigned>(blocks)};
  if (meet) return m.run(0, blocks, threads, shared, true);
  for (unsigned b = 0; b < blocks; b++)
    if (const char* why = m.run(b, 1, threads, shared, false)) return why;
  return nullptr;
}

}  // namespace fastift

inline void __syncthreads() { fastift::machine().wait(fastift::Machine::AT_BLOCK); }
