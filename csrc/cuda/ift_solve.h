// ift_solve: every step  A <- A - 2 lr (A - anchor) - c (A G A^T - S) A  of the collapsed iteration, in one launch.
//
// A step is three products: T = A G, U = T A^T - S, and the step itself with U A. Where G, A, T and U fit the shared memory of
// a block, one block makes all steps of a sample. Beyond, the tiles of each product are spread over the card, in a cooperative
// launch with a grid barrier after each product; the matrices stay in the second-level cache. Products are in the matrices'
// own dtype, on the ordinary units: float32 means float32, not TF32. Neither G nor S is taken to be symmetric.
#pragma once
#include <cstdint>

#include "device.h"
#include "launch.h"

namespace fastift {

constexpr int ALONE_THREADS = 256, SPREAD_THREADS = 128;
constexpr int SPREAD_TILE = 32, SPREAD_STEP = SPREAD_TILE + 4;  // rows of a tile keep the alignment of Four
constexpr int BUFFERS = 5;                                      // of a spread solution: three for A, T, U

template <typename T>
struct SolveTask {
  const T *gram, *style, *c;
  T *out, *work;  // work [BUFFERS][batch][channels][channels]
  T pull;
  int64_t batch, channels, n_upd, n_iter;
};

// Channels up to which one block does all: the four matrices then fit the 99 KiB that every card from 8.0 on has.
template <typename T>
constexpr int64_t most_alone() {
  return sizeof(T) == 4 ? 64 : 48;
}

__host__ __device__ inline int alone_padded(int64_t channels) { return static_cast<int>(tiles_of(channels, 4) * 4); }

template <typename T>
size_t alone_shared(int64_t channels) {
  return 4 * alone_padded(channels) * (alone_padded(channels) + 4) * sizeof(T);
}

// left right, or left right^T, of [n][n + 4] in shared memory, n a multiple of 4. Every thread makes tiles of 4 x 4 entries and
// gives each to take(row, column, entry). Transposed, its four columns lie n / 4 apart, so that no two threads of a warp
// read from the same bank.
template <bool TRANSPOSED, typename T, typename Take>
__device__ void alone_product(const T* left, const T* right, int n, Take take) {
  const int step = n + 4, side = n / 4;
  for (int tile = threadIdx.x; tile < side * side; tile += ALONE_THREADS) {
    const int row = tile / side * 4, column = TRANSPOSED ? tile % side : tile % side * 4, apart = TRANSPOSED ? side : 1;
    T acc[4][4] = {};
    for (int k = 0; k < n; k += 4) {
      Four<T> a[4], b[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        a[i] = *reinterpret_cast<const Four<T>*>(left + (row + i) * step + k);
        b[i] = *reinterpret_cast<const Four<T>*>(TRANSPOSED ? right + (column + i * apart) * step + k
                                                            : right + (k + i) * step + column);
      }
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
          for (int l = 0; l < 4; l++) acc[i][j] += a[i].v[l] * (TRANSPOSED ? b[j].v[l] : b[l].v[j]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) take(row + i, column + j * apart, acc[i][j]);
  }
}

// One block for each sample. The anchor lies in `out`, where every thread reads only what it wrote itself.
template <typename T>
__global__ void __launch_bounds__(ALONE_THREADS, 1) alone_solve_kernel(SolveTask<T> task) {
  const int channels = static_cast<int>(task.channels), n = alone_padded(channels), step = n + 4;
  T* gram = reinterpret_cast<T*>(shared_memory());
  T *a = gram + n * step, *t = a + n * step, *u = t + n * step;
  const int64_t offset = static_cast<int64_t>(blockIdx.x) * channels * channels;
  const T* style = task.style + offset;
  T* anchor = task.out + offset;
  const T c = task.c[blockIdx.x], pull = task.pull;
  const auto inside = [=](int row, int column) { return row < channels && column < channels; };
  for (int i = threadIdx.x; i < n * n; i += ALONE_THREADS) {
    const int row = i / n, column = i % n;
    gram[row * step + column] = inside(row, column) ? task.gram[offset + row * channels + column] : T(0);
    a[row * step + column] = inside(row, column) && row == column;
  }
  for (int64_t iteration = 0; iteration < task.n_iter; iteration++)
    for (int64_t update = 0; update < task.n_upd; update++) {
      __syncthreads();
      alone_product<false>(a, gram, n, [=](int row, int column, T entry) { t[row * step + column] = entry; });
      __syncthreads();
      alone_product<true>(t, a, n, [=](int row, int column, T entry) {
        u[row * step + column] = inside(row, column) ? entry - style[row * channels + column] : T(0);
      });
      __syncthreads();
      // T has served; the new A goes there
      alone_product<false>(u, a, n, [=](int row, int column, T entry) {
        const T old = a[row * step + column];
        T away = 0;
        if (inside(row, column)) {
          T& kept = anchor[row * channels + column];
          if (update == 0) kept = old;
          away = old - kept;
        }
        t[row * step + column] = old - pull * away - c * entry;
      });
      T* swapped = a;
      a = t;
      t = swapped;
    }
  __syncthreads();
  for (int i = threadIdx.x; i < channels * channels; i += ALONE_THREADS)
    task.out[offset + i] = a[i / channels * step + i % channels];
}

// One tile of left right, or left right^T, of matrices [channels][channels]: 128 threads, 4 x 2 entries each. The numbers of the
// next 32 columns are on their way while those of the last are multiplied.
template <bool TRANSPOSED, typename T, typename Take>
__device__ void spread_product(const T* left, const T* right, int channels, int tile, T* shared, Take take) {
  constexpr int EACH = SPREAD_TILE * SPREAD_TILE / SPREAD_THREADS;
  const int side = static_cast<int>(tiles_of(channels, SPREAD_TILE));
  const int top = tile / side * SPREAD_TILE, edge = tile % side * SPREAD_TILE;
  const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16;
  T *a = shared, *b = shared + SPREAD_TILE * SPREAD_STEP;  // [k][row], [k][column]
  T next_a[EACH], next_b[EACH];
  const int x = threadIdx.x % SPREAD_TILE, y = threadIdx.x / SPREAD_TILE;
  constexpr int ROWS = SPREAD_THREADS / SPREAD_TILE;  // that the block reads at a time
  const auto fetch = [&](int first) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int from = top + y + i * ROWS, k = first + x;
      next_a[i] = from < channels && k < channels ? left[from * channels + k] : T(0);
      const int r = (TRANSPOSED ? edge : first) + y + i * ROWS, q = (TRANSPOSED ? first : edge) + x;
      next_b[i] = r < channels && q < channels ? right[r * channels + q] : T(0);
    }
  };
  T acc[4][2] = {};
  fetch(0);
  for (int first = 0; first < channels; first += SPREAD_TILE) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int line = y + i * ROWS;
      a[x * SPREAD_STEP + line] = next_a[i];
      b[TRANSPOSED ? x * SPREAD_STEP + line : line * SPREAD_STEP + x] = next_b[i];
    }
    __syncthreads();
    if (first + SPREAD_TILE < channels) fetch(first + SPREAD_TILE);
#pragma unroll 8
    for (int k = 0; k < SPREAD_TILE; k++) {
      const Four<T> down = *reinterpret_cast<const Four<T>*>(a + k * SPREAD_STEP + row);
      const T one = b[k * SPREAD_STEP + column], other = b[k * SPREAD_STEP + column + 16];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        acc[i][0] += down.v[i] * one;
        acc[i][1] += down.v[i] * other;
      }
    }
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 2; j++) {
      const int r = top + row + i, q = edge + column + 16 * j;
      if (r < channels && q < channels) take(r * channels + q, acc[i][j]);
    }
}

template <typename T>
__global__ void __launch_bounds__(SPREAD_THREADS, 1) spread_solve_kernel(SolveTask<T> task) {
  T* shared = reinterpret_cast<T*>(shared_memory());
  const int64_t channels = task.channels, size = channels * channels, all = task.batch * size;
  const int64_t side = tiles_of(channels, SPREAD_TILE), tiles = side * side;
  const int n = static_cast<int>(channels);
  const int64_t own = static_cast<int64_t>(blockIdx.x) * SPREAD_THREADS + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * SPREAD_THREADS;
  T *t = task.work + 3 * all, *u = task.work + 4 * all;
  int anchor = 0, current = 0;  // which of the first three buffers
  for (int64_t i = own; i < all; i += stride) task.work[i] = i % size / channels == i % size % channels;
  grid_barrier();
  for (int64_t iteration = 0; iteration < task.n_iter; iteration++) {
    anchor = current;
    for (int64_t update = 0; update < task.n_upd; update++) {
      const int next = current != 0 && anchor != 0 ? 0 : current != 1 && anchor != 1 ? 1 : 2;
      const T *a = task.work + current * all, *from = task.work + anchor * all;
      T* to = task.work + next * all;
      for (int64_t i = blockIdx.x; i < task.batch * tiles; i += gridDim.x) {
        const int64_t at = i / tiles * size;
        spread_product<false>(a + at, task.gram + at, n, static_cast<int>(i % tiles), shared,
                              [=](int e, T entry) { t[at + e] = entry; });
      }
      grid_barrier();
      for (int64_t i = blockIdx.x; i < task.batch * tiles; i += gridDim.x) {
        const int64_t at = i / tiles * size;
        spread_product<true>(t + at, a + at, n, static_cast<int>(i % tiles), shared,
                             [=](int e, T entry) { u[at + e] = entry - task.style[at + e]; });
      }
      grid_barrier();
      for (int64_t i = blockIdx.x; i < task.batch * tiles; i += gridDim.x) {
        const int64_t at = i / tiles * size;
        const T c = task.c[i / tiles];
        spread_product<false>(u + at, a + at, n, static_cast<int>(i % tiles), shared, [=](int e, T entry) {
          const T old = a[at + e];
          to[at + e] = old - task.pull * (old - from[at + e]) - c * entry;
        });
      }
      grid_barrier();
      current = next;
    }
  }
  const T* result = task.work + current * all;
  for (int64_t i = own; i < all; i += stride) task.out[i] = result[i];
}

}  // namespace fastift
