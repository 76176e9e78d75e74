// sqrtm_psd: V f(D) V^T from the eigenvalues D of A = V D V^T, which Jacobi rotations find.
//
// Jacobi, because the operation is a hard floor on eigenvalues: below it they count as zero. That needs the eigenvalues; an
// iteration of products (Newton-Schulz) stalls on singular matrices and only ever sees a floor as a blur. Jacobi converges on any
// symmetric matrix, repeated and zero eigenvalues included, is within a small factor as exact as LAPACK, and rotates all rows at
// a time, in pairs. All of it is in double, for float matrices too: a floor of 1e-7 and smaller means nothing in float.
//
// Up to SMALL channels, one block holds A and V in shared memory. Beyond, blocks of 16 rows and columns play the part of single
// ones: a round pairs them all, every pair is rotated on chip as a matrix of 32 x 32, and the product of its rotations is then
// applied to the rest of A and to V, in tiles of 32 x 32 spread over the card, with a grid barrier between the two.
//
// The same bits every time: nothing is added up in an order that depends on timing. And no NaN passes for a result: what is not
// finite counts as infinitely large, which never converges.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "device.h"
#include "launch.h"

namespace fastift {

constexpr int SMALL = 64;
constexpr int SMALL_THREADS = 512, LARGE_THREADS = 256;
constexpr int HALF = 16, TILE = 32, TILE_STEP = TILE + 1;
constexpr int MOST_SWEEPS = 60;            // about ten are usual, twenty have been seen
constexpr double NEGLIGIBLE = 0x1p-54;     // an entry beside the diagonal, where the largest entry was 1
constexpr double ALLOWED = 1e-3;           // asymmetry and negative eigenvalues, relative, as in the reference
constexpr double SMALLEST_SCALE = 1e-290;  // of the zero matrix

struct Rotation {
  int p, q;
  double c, s;        // cosine, sine; s is zero if nothing is to be done
  double at_p, at_q;  // what is on the diagonal afterwards
};

// |x|, infinite if x is not finite: fmax would pass over a NaN.
__device__ inline double magnitude(double x) {
  const double size = fabs(x);
  return size <= DBL_MAX ? size : HUGE_VAL;
}

// The largest of all threads of the block, to all of them; scratch holds as many numbers.
template <int THREADS>
__device__ double block_max(double own, double* scratch) {
  const int thread = threadIdx.x;
  __syncthreads();
  scratch[thread] = own;
  __syncthreads();
  if (thread < HALF)
    for (int i = thread + HALF; i < THREADS; i += HALF) scratch[thread] = fmax(scratch[thread], scratch[i]);
  __syncthreads();
  double most = scratch[0];
  for (int i = 1; i < HALF; i++) most = fmax(most, scratch[i]);
  return most;
}

// Pair number `index` of n / 2 in a round. In round r of n, those meet whose sum is r modulo n, and the two that are left over;
// for `cross`, in n / 2 rounds, the first half meets the second.
__device__ inline void paired(int n, int round, int index, bool cross, int& p, int& q) {
  int a, b;
  if (cross) {
    a = index;
    b = index + round + (index + round < n / 2 ? n / 2 : 0);
  } else {
    const int middle = round / 2, odd = round % 2;
    a = middle + odd + index;
    b = index == 0 && odd == 0 ? middle + n / 2 : middle - index;
    a -= a < n ? 0 : n;
    b += b < 0 ? n : 0;
  }
  p = a < b ? a : b;
  q = a < b ? b : a;
}

// The rotation that makes entry (p, q) of a symmetric matrix zero and puts the larger eigenvalue first: sorted matrices whose
// eigenvalues span many orders of magnitude converge in about half the sweeps.
__device__ inline Rotation rotation(const double* a, int step, int p, int q) {
  const double between = a[p * step + q], at_p = a[p * step + p], at_q = a[q * step + q];
  if (!(fabs(between) > NEGLIGIBLE)) {
    if (at_p < at_q) return {p, q, 0, -1, at_q, at_p};
    return {p, q, 1, 0, at_p, at_q};
  }
  const double cotangent = (at_q - at_p) / (2 * between);  // of twice the angle, of which there are two
  const double t = (cotangent < 0 ? -1 : 1) / (fabs(cotangent) + sqrt(1 + cotangent * cotangent));
  // 1 / sqrt(1 + t^2), in a form whose rounding is not always upward for small angles: that would stretch V with every rotation
  const double square = t * t, c = 1 - square / (1 + square + sqrt(1 + square)), moved = t * between;
  if (at_p - moved < at_q + moved) return {p, q, t * c, -c, at_q + moved, at_p - moved};
  return {p, q, c, t * c, at_p - moved, at_q + moved};
}

// One sweep of rotations over a symmetric matrix [n][step] in shared memory, n even and at most MOST, and over the columns of
// v [n][step].
template <int THREADS, int MOST>
__device__ void sweep(double* a, double* v, int n, int step, bool cross, Rotation* rotations) {
  const int thread = threadIdx.x, half = n / 2;
  for (int round = 0; round < (cross ? half : n); round++) {
    if (thread < half) {
      int p, q;
      paired(n, round, thread, cross, p, q);
      rotations[thread] = rotation(a, step, p, q);
    }
    __syncthreads();
    // the 2 x 2 entries where two pairs meet belong to one thread; it writes both sides, so that A stays symmetric to the bit
    const int own = thread % (MOST / 2);
    for (int i = thread / (MOST / 2); i < half; i += THREADS / (MOST / 2)) {
      if (i < own) continue;
      const Rotation x = rotations[i], y = rotations[own];
      if (x.s == 0 && y.s == 0) continue;
      if (x.p == y.p) {
        a[x.p * step + x.p] = x.at_p;
        a[x.q * step + x.q] = x.at_q;
        a[x.p * step + x.q] = a[x.q * step + x.p] = 0;
        continue;
      }
      const double pp = a[x.p * step + y.p], pq = a[x.p * step + y.q], qp = a[x.q * step + y.p], qq = a[x.q * step + y.q];
      const double up = x.c * pp - x.s * qp, uq = x.c * pq - x.s * qq;
      const double lp = x.s * pp + x.c * qp, lq = x.s * pq + x.c * qq;
      a[x.p * step + y.p] = a[y.p * step + x.p] = y.c * up - y.s * uq;
      a[x.p * step + y.q] = a[y.q * step + x.p] = y.s * up + y.c * uq;
      a[x.q * step + y.p] = a[y.p * step + x.q] = y.c * lp - y.s * lq;
      a[x.q * step + y.q] = a[y.q * step + x.q] = y.s * lp + y.c * lq;
    }
    for (int i = thread / MOST; i < half; i += THREADS / MOST) {
      const Rotation x = rotations[i];
      if (x.s == 0 || thread % MOST >= n) continue;
      double* row = v + thread % MOST * step;
      const double left = row[x.p], right = row[x.q];
      row[x.p] = x.c * left - x.s * right;
      row[x.q] = x.s * left + x.c * right;
    }
    __syncthreads();
  }
}

// Largest |entry|, infinite if one is not finite.
template <int THREADS, typename T>
__device__ double largest_entry(const T* a, int64_t count, double* scratch) {
  double most = 0;
  for (int64_t i = threadIdx.x; i < count; i += THREADS) most = fmax(most, magnitude(a[i]));
  return block_max<THREADS>(most, scratch);
}

// A / scale, made symmetric, as double [padded][step], zero where it is padded; V = 1. Says what is wrong with A, which is then
// taken as zero.
template <int THREADS, typename T>
__device__ Verdict prepare(const T* given, int64_t channels, double* a, double* v, int64_t padded, int64_t step,
                           double* scratch, double& scale) {
  const double most = largest_entry<THREADS>(given, channels * channels, scratch);
  Verdict verdict = most <= DBL_MAX ? RIGHT : NOT_FINITE;
  scale = verdict == RIGHT ? fmax(most, SMALLEST_SCALE) : 1;
  const double to_unit = 1 / scale;
  double apart = 0;
  for (int64_t i = threadIdx.x; i < padded * padded; i += THREADS) {
    const int64_t row = i / padded, column = i % padded;
    double here = 0, mirrored = 0;
    if (verdict == RIGHT && row < channels && column < channels) {
      here = given[row * channels + column] * to_unit;
      mirrored = given[column * channels + row] * to_unit;
    }
    apart = fmax(apart, fabs(here - mirrored));
    a[row * step + column] = 0.5 * (here + mirrored);
    v[row * step + column] = row == column;
  }
  if (block_max<THREADS>(apart, scratch) > ALLOWED) verdict = ASYMMETRIC;
  return verdict;
}

// What the eigenvalues on the diagonal of a [n][step] say.
struct Spectrum {
  double top, lowest;
  bool indefinite;
};

template <int THREADS>
__device__ Spectrum spectrum(const double* a, int64_t n, int64_t step, double* scratch) {
  double top = 0, bottom = 0;
  for (int64_t i = threadIdx.x; i < n; i += THREADS) {
    const double value = a[i * step + i];
    top = fmax(top, value);
    bottom = fmax(bottom, magnitude(value) <= DBL_MAX ? -value : HUGE_VAL);
  }
  top = block_max<THREADS>(top, scratch);
  bottom = block_max<THREADS>(bottom, scratch);
  return {top, -bottom, bottom > ALLOWED * fmax(top, bottom)};
}

// Square root of an eigenvalue and its inverse, both zero up to the floor.
__device__ inline void floored(double value, double eps, const Spectrum& found, double& root, double& inverse) {
  const bool kept = value > eps * found.top;
  root = kept ? sqrt(value) : 0;
  inverse = kept ? 1 / root : 0;
}

__device__ inline void say(double* report, Verdict verdict, const Spectrum& found, double scale, double left, int sweeps) {
  report[0] = verdict;
  report[1] = verdict == INDEFINITE ? found.lowest * scale : verdict == NOT_CONVERGED ? left : 0;
  report[2] = sweeps;
}

// Matrices that do not fit a block: A / scale and V [batch][padded][padded], turns [batch][pairs][TILE * TILE],
// moved [batch][pairs], seen [2][batch][pairs], state [batch][STATE] = verdict, scale, largest entry left beside the diagonal.
struct JacobiTask {
  int64_t batch, padded;
  double *unit, *vectors, *turns, *moved, *seen, *state, *report;
};

constexpr int STATE = 3;

template <typename T>
struct SqrtmTask {
  const T* a;
  T *root, *inverse;
  int64_t channels;
  double eps;
  JacobiTask large;  // batch, padded and report for the small ones, too
};

// All of one matrix in one block: A and V [padded][padded + 1], rotations, scratch.
template <typename T>
__global__ void __launch_bounds__(SMALL_THREADS, 1) small_sqrtm_kernel(SqrtmTask<T> task) {
  const int n = static_cast<int>(task.large.padded), step = n + 1, channels = static_cast<int>(task.channels);
  double* a = reinterpret_cast<double*>(shared_memory());
  double *v = a + n * step, *scratch = v + n * step;
  Rotation* rotations = reinterpret_cast<Rotation*>(scratch + SMALL_THREADS);
  const int64_t offset = static_cast<int64_t>(blockIdx.x) * channels * channels;
  double scale, left = 0;
  Verdict verdict = prepare<SMALL_THREADS>(task.a + offset, channels, a, v, n, step, scratch, scale);
  int sweeps = 0;
  for (; verdict == RIGHT; sweeps++) {
    double most = 0;
    for (int i = threadIdx.x; i < n * n; i += SMALL_THREADS)
      if (i / n != i % n) most = fmax(most, magnitude(a[i / n * step + i % n]));
    left = block_max<SMALL_THREADS>(most, scratch);
    if (left <= NEGLIGIBLE) break;
    if (sweeps == MOST_SWEEPS) verdict = NOT_CONVERGED;
    if (verdict == RIGHT) sweep<SMALL_THREADS, SMALL>(a, v, n, step, false, rotations);
  }
  const Spectrum found = spectrum<SMALL_THREADS>(a, n, step, scratch);
  if (verdict == RIGHT && found.indefinite) verdict = INDEFINITE;
  if (threadIdx.x == 0) say(task.large.report + blockIdx.x * REPORT, verdict, found, scale, left, sweeps);
  double *roots = scratch, *inverses = scratch + n;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += SMALL_THREADS) floored(a[i * step + i], task.eps, found, roots[i], inverses[i]);
  __syncthreads();
  const double unit = sqrt(scale);
  for (int i = threadIdx.x; i < channels * channels; i += SMALL_THREADS) {
    const int row = i / channels, column = i % channels;
    if (row < column) continue;
    double root = 0, inverse = 0;
    for (int k = 0; k < n; k++) {
      const double both = v[row * step + k] * v[column * step + k];
      root += both * roots[k];
      inverse += both * inverses[k];
    }
    if (verdict != RIGHT) root = inverse = NAN;
    task.root[offset + row * channels + column] = task.root[offset + column * channels + row] = static_cast<T>(root * unit);
    task.inverse[offset + row * channels + column] = task.inverse[offset + column * channels + row] =
        static_cast<T>(inverse / unit);
  }
}

// The large ones, first launch: a block for each matrix.
template <typename T>
__global__ void __launch_bounds__(LARGE_THREADS, 1) prepare_kernel(SqrtmTask<T> task) {
  double* scratch = reinterpret_cast<double*>(shared_memory());
  const int64_t b = blockIdx.x, n = task.large.padded;
  double* unit = task.large.unit + b * n * n;
  double scale;
  const Verdict verdict = prepare<LARGE_THREADS>(task.a + b * task.channels * task.channels, task.channels, unit,
                                  task.large.vectors + b * n * n, n, n, scratch, scale);
  // a matrix that is refused must not keep the others waiting
  if (verdict != RIGHT)
    for (int64_t i = threadIdx.x; i < n * n; i += LARGE_THREADS) unit[i] = 0;
  if (threadIdx.x == 0) {
    task.large.state[STATE * b] = verdict;
    task.large.state[STATE * b + 1] = scale;
  }
}

// Where row or column i of a pair's 32 lies in the matrix.
struct Place {
  int64_t first, second;
  __device__ int64_t operator()(int i) const { return i < HALF ? first + i : second + i - HALF; }
};

__device__ inline Place place(int64_t padded, int round, int pair) {
  int p, q;
  paired(static_cast<int>(padded / HALF), round, pair, false, p, q);
  return {static_cast<int64_t>(p) * HALF, static_cast<int64_t>(q) * HALF};
}

// The 32 x 32 entries where a pair meets itself: rotated once, or, in the first round of a sweep, also within its two halves.
__device__ inline void rotate_pair(const JacobiTask& task, int64_t b, int round, int pair, double* seen, double* shared) {
  double *a = shared, *v = a + TILE * TILE_STEP, *scratch = v + TILE * TILE_STEP;
  Rotation* rotations = reinterpret_cast<Rotation*>(scratch + LARGE_THREADS);
  const Place at = place(task.padded, round, pair);
  const int64_t pairs = task.padded / TILE, n = task.padded;
  double* unit = task.unit + b * n * n;
  double most = 0;
  for (int i = threadIdx.x; i < TILE * TILE; i += LARGE_THREADS) {
    const int row = i / TILE, column = i % TILE;
    const double entry = unit[at(row) * n + at(column)];
    if (row != column) most = fmax(most, magnitude(entry));
    a[row * TILE_STEP + column] = entry;
    v[row * TILE_STEP + column] = row == column;
  }
  most = block_max<LARGE_THREADS>(most, scratch);
  const bool moves = most > NEGLIGIBLE;
  if (threadIdx.x == 0) {
    task.moved[b * pairs + pair] = moves;
    double& so_far = seen[b * pairs + pair];
    so_far = round == 0 ? most : fmax(so_far, most);
  }
  if (moves) {
    sweep<LARGE_THREADS, TILE>(a, v, TILE, TILE_STEP, round != 0, rotations);
    for (int i = threadIdx.x; i < TILE * TILE; i += LARGE_THREADS) {
      const int row = i / TILE, column = i % TILE;
      unit[at(row) * n + at(column)] = a[row * TILE_STEP + column];
      task.turns[(b * pairs + pair) * TILE * TILE + i] = v[row * TILE_STEP + column];
    }
  }
  __syncthreads();
}

// A pair's rotations, which are the identity if it did not move.
__device__ inline void load_turn(const JacobiTask& task, int64_t index, bool moved, double* out) {
  for (int i = threadIdx.x; i < TILE * TILE; i += LARGE_THREADS) {
    const int row = i / TILE, column = i % TILE;
    out[row * TILE_STEP + column] = moved ? task.turns[index * TILE * TILE + i] : row == column;
  }
}

// out = left right, or left^T right, of 32 x 32 in shared memory; every thread makes 2 x 2 entries.
__device__ inline void multiply(const double* left, bool transposed, const double* right, double* out) {
  const int row = threadIdx.x / HALF, column = threadIdx.x % HALF;
  const int along = transposed ? TILE_STEP : 1, across = transposed ? 1 : TILE_STEP;
  double acc[2][2] = {};
#pragma unroll 8
  for (int k = 0; k < TILE; k++) {
    const double upper = left[row * across + k * along], lower = left[(row + HALF) * across + k * along];
    const double first = right[k * TILE_STEP + column], second = right[k * TILE_STEP + column + HALF];
    acc[0][0] += upper * first;
    acc[0][1] += upper * second;
    acc[1][0] += lower * first;
    acc[1][1] += lower * second;
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) out[(row + i * HALF) * TILE_STEP + column + j * HALF] = acc[i][j];
}

// One tile of A where two different pairs meet, turned from both sides, and its mirror image; or one tile of V, turned.
__device__ inline void turn_tile(const JacobiTask& task, int64_t b, int round, int64_t tile, double* shared) {
  const int64_t pairs = task.padded / TILE, n = task.padded, below = pairs * (pairs - 1) / 2;
  double *x = shared, *y = x + TILE * TILE_STEP, *left = y + TILE * TILE_STEP, *right = left + TILE * TILE_STEP;
  const bool of_a = tile < below;
  int64_t i, j;
  if (of_a) {
    for (i = 1, j = tile; j >= i; i++) j -= i;  // tile number j of row i below the diagonal
  } else {
    i = (tile - below) / pairs;
    j = (tile - below) % pairs;
  }
  const bool turned_left = of_a && task.moved[b * pairs + i] != 0, turned_right = task.moved[b * pairs + j] != 0;
  if (!turned_left && !turned_right) return;
  const Place columns = place(n, round, static_cast<int>(j));
  const Place rows = of_a ? place(n, round, static_cast<int>(i)) : Place{i * TILE, i * TILE + HALF};
  double* matrix = (of_a ? task.unit : task.vectors) + b * n * n;
  for (int e = threadIdx.x; e < TILE * TILE; e += LARGE_THREADS)
    x[e / TILE * TILE_STEP + e % TILE] = matrix[rows(e / TILE) * n + columns(e % TILE)];
  load_turn(task, b * pairs + j, turned_right, right);
  if (of_a) load_turn(task, b * pairs + i, turned_left, left);
  __syncthreads();
  multiply(x, false, right, y);
  __syncthreads();
  if (of_a) {
    multiply(left, true, y, x);
    __syncthreads();
  }
  const double* result = of_a ? x : y;
  for (int e = threadIdx.x; e < TILE * TILE; e += LARGE_THREADS) {
    const int row = e / TILE, column = e % TILE;
    matrix[rows(row) * n + columns(column)] = result[row * TILE_STEP + column];
    if (of_a) matrix[columns(row) * n + rows(column)] = result[column * TILE_STEP + row];
  }
  __syncthreads();
}

// Of A below the diagonal, and of V.
__host__ __device__ inline int64_t jacobi_tiles(int64_t pairs) { return pairs * (pairs - 1) / 2 + pairs * pairs; }

// Second launch, cooperative: sweeps until no pair has anything left to rotate.
__global__ void __launch_bounds__(LARGE_THREADS, 2) jacobi_kernel(JacobiTask task) {
  double* shared = reinterpret_cast<double*>(shared_memory());
  double* scratch = shared + 2 * TILE * TILE_STEP;  // as in rotate_pair
  const int64_t pairs = task.padded / TILE, tiles = jacobi_tiles(pairs);
  const int rounds = static_cast<int>(task.padded / HALF);
  // in turns, so that no block begins to write while another still reads
  double* seen = task.seen;
  int sweeps = 0;
  for (double left = HUGE_VAL; left > NEGLIGIBLE && sweeps < MOST_SWEEPS; sweeps++) {
    seen = task.seen + sweeps % 2 * task.batch * pairs;
    for (int round = 0; round < rounds; round++) {
      for (int64_t i = blockIdx.x; i < task.batch * pairs; i += gridDim.x)
        rotate_pair(task, i / pairs, round, static_cast<int>(i % pairs), seen, shared);
      grid_barrier();
      for (int64_t i = blockIdx.x; i < task.batch * tiles; i += gridDim.x) turn_tile(task, i / tiles, round, i % tiles, shared);
      grid_barrier();
    }
    double most = 0;
    for (int64_t i = threadIdx.x; i < task.batch * pairs; i += LARGE_THREADS) most = fmax(most, seen[i]);
    left = block_max<LARGE_THREADS>(most, scratch);
  }
  for (int64_t b = blockIdx.x; b < task.batch; b += gridDim.x) {
    double most = 0;
    for (int64_t i = threadIdx.x; i < pairs; i += LARGE_THREADS) most = fmax(most, seen[b * pairs + i]);
    most = block_max<LARGE_THREADS>(most, scratch);
    if (threadIdx.x == 0) {
      task.state[STATE * b + 2] = most;
      task.report[b * REPORT + 2] = sweeps;
    }
  }
}

// Bytes of shared memory.
constexpr size_t PAIR_SHARED = 4 * TILE * TILE_STEP * sizeof(double);
constexpr size_t COMPOSE_SHARED = (LARGE_THREADS + 2 * TILE * TILE_STEP + 2 * TILE) * sizeof(double);
static_assert(PAIR_SHARED >= (2 * TILE * TILE_STEP + LARGE_THREADS) * sizeof(double) + HALF * sizeof(Rotation));

inline size_t small_shared(int64_t padded) {
  return (2 * padded * (padded + 1) + SMALL_THREADS) * sizeof(double) + padded / 2 * sizeof(Rotation);
}

// Third launch: V f(D) V^T in tiles of 32 x 32, those below the diagonal and their mirror images.
template <typename T>
__global__ void __launch_bounds__(LARGE_THREADS, 1) compose_kernel(SqrtmTask<T> task) {
  const int64_t n = task.large.padded, side = tiles_of(task.channels, TILE), tiles = side * (side + 1) / 2;
  double* scratch = reinterpret_cast<double*>(shared_memory());
  double *upper = scratch + LARGE_THREADS, *lower = upper + TILE * TILE_STEP;
  double *roots = lower + TILE * TILE_STEP, *inverses = roots + TILE;
  const int64_t b = blockIdx.x / tiles;
  int64_t i = 0, j = blockIdx.x % tiles;
  for (; j > i; i++) j -= i + 1;
  const double *unit = task.large.unit + b * n * n, *vectors = task.large.vectors + b * n * n;
  const double *state = task.large.state + b * STATE, scale = state[1], left = state[2];
  const Spectrum found = spectrum<LARGE_THREADS>(unit, n, n, scratch);
  Verdict verdict = static_cast<Verdict>(static_cast<int>(state[0]));
  if (verdict == RIGHT && !(left <= NEGLIGIBLE)) verdict = NOT_CONVERGED;
  if (verdict == RIGHT && found.indefinite) verdict = INDEFINITE;
  if (threadIdx.x == 0 && i == 0) {
    double* report = task.large.report + b * REPORT;
    say(report, verdict, found, scale, left, static_cast<int>(report[2]));
  }
  const int row = threadIdx.x / HALF, column = threadIdx.x % HALF;
  double root[2][2] = {}, inverse[2][2] = {};
  for (int64_t first = 0; first < n; first += TILE) {
    for (int e = threadIdx.x; e < TILE * TILE; e += LARGE_THREADS) {
      const int at = e / TILE * TILE_STEP + e % TILE;
      upper[at] = vectors[(i * TILE + e / TILE) * n + first + e % TILE];
      lower[at] = vectors[(j * TILE + e / TILE) * n + first + e % TILE];
    }
    if (threadIdx.x < TILE) {
      const int k = threadIdx.x;
      floored(unit[(first + k) * (n + 1)], task.eps, found, roots[k], inverses[k]);
    }
    __syncthreads();
    for (int k = 0; k < TILE; k++) {
      for (int x = 0; x < 2; x++)
        for (int y = 0; y < 2; y++) {
          const double both = upper[(row + x * HALF) * TILE_STEP + k] * lower[(column + y * HALF) * TILE_STEP + k];
          root[x][y] += both * roots[k];
          inverse[x][y] += both * inverses[k];
        }
    }
    __syncthreads();
  }
  const double by = sqrt(scale);
  T *to_root = task.root + b * task.channels * task.channels, *to_inverse = task.inverse + b * task.channels * task.channels;
  for (int x = 0; x < 2; x++)
    for (int y = 0; y < 2; y++) {
      const int64_t r = i * TILE + row + x * HALF, c = j * TILE + column + y * HALF;
      if (r >= task.channels || c > r) continue;
      const bool right = verdict == RIGHT;
      const T one = static_cast<T>(right ? root[x][y] * by : NAN), other = static_cast<T>(right ? inverse[x][y] / by : NAN);
      to_root[r * task.channels + c] = to_root[c * task.channels + r] = one;
      to_inverse[r * task.channels + c] = to_inverse[c * task.channels + r] = other;
    }
}

}  // namespace fastift
