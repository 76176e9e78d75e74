// Which kernels a call takes, on how many blocks. No header of torch is read here: that would be the better part of the compile
// time, once for every generation of cards.
#include "ift_solve.h"
#include "sqrtm_psd.h"

namespace fastift {
namespace {

int64_t padded_channels(int64_t channels) {
  // pairs: of channels in one block, of 16 channels beyond
  return channels <= SMALL ? tiles_of(channels, 2) * 2 : tiles_of(channels, TILE) * TILE;
}

template <typename T>
const char* run(const SqrtmCall& call, void* stream) {
  SqrtmTask<T> task = {};
  task.a = static_cast<const T*>(call.a);
  task.root = static_cast<T*>(call.root);
  task.inverse = static_cast<T*>(call.inverse);
  task.channels = call.channels;
  task.eps = call.eps;
  JacobiTask& large = task.large;
  large.batch = call.batch;
  large.padded = padded_channels(call.channels);
  large.report = call.report;
  if (call.channels <= SMALL)
    return launch(small_sqrtm_kernel<T>, task, call.batch, SMALL_THREADS, small_shared(large.padded), false, stream);
  const int64_t size = large.padded * large.padded, pairs = large.padded / TILE, side = tiles_of(call.channels, TILE);
  large.unit = call.workspace;
  large.vectors = large.unit + call.batch * size;
  large.turns = large.vectors + call.batch * size;
  large.moved = large.turns + call.batch * pairs * TILE * TILE;
  large.seen = large.moved + call.batch * pairs;
  large.state = large.seen + 2 * call.batch * pairs;
  const char* why = launch(prepare_kernel<T>, task, call.batch, LARGE_THREADS, LARGE_THREADS * sizeof(double), false, stream);
  const int64_t blocks = call.batch * jacobi_tiles(pairs);
  if (why == nullptr) why = launch(jacobi_kernel, large, blocks, LARGE_THREADS, PAIR_SHARED, true, stream);
  const int64_t tiles = call.batch * side * (side + 1) / 2;
  if (why == nullptr) why = launch(compose_kernel<T>, task, tiles, LARGE_THREADS, COMPOSE_SHARED, false, stream);
  return why;
}

template <typename T>
const char* run(const SolveCall& call, void* stream) {
  SolveTask<T> task = {};
  task.gram = static_cast<const T*>(call.gram);
  task.style = static_cast<const T*>(call.style);
  task.c = static_cast<const T*>(call.c);
  task.out = static_cast<T*>(call.out);
  task.work = static_cast<T*>(call.workspace);
  task.pull = static_cast<T>(2 * call.lr);
  task.batch = call.batch;
  task.channels = call.channels;
  task.n_upd = call.n_upd;
  task.n_iter = call.n_iter;
  if (call.channels <= most_alone<T>())
    return launch(alone_solve_kernel<T>, task, call.batch, ALONE_THREADS, alone_shared<T>(call.channels), false, stream);
  const int64_t side = tiles_of(call.channels, SPREAD_TILE);
  return launch(spread_solve_kernel<T>, task, call.batch * side * side, SPREAD_THREADS,
                2 * SPREAD_TILE * SPREAD_STEP * sizeof(T), true, stream);
}

}  // namespace

int64_t sqrtm_psd_workspace(int64_t batch, int64_t channels) {
  if (channels <= SMALL) return 0;
  const int64_t n = padded_channels(channels), pairs = n / TILE;
  return batch * (2 * n * n + pairs * TILE * TILE + 3 * pairs + STATE);
}

const char* queue_sqrtm_psd(const SqrtmCall& call, void* stream) {
  return call.is_double ? run<double>(call, stream) : run<float>(call, stream);
}

int64_t ift_solve_workspace(int64_t batch, int64_t channels, bool is_double) {
  const int64_t alone = is_double ? most_alone<double>() : most_alone<float>();
  return channels <= alone ? 0 : BUFFERS * batch * channels * channels;
}

const char* queue_ift_solve(const SolveCall& call, void* stream) {
  return call.is_double ? run<double>(call, stream) : run<float>(call, stream);
}

}  // namespace fastift
