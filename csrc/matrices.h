// C x C matrices: storage padded to whole blocks, products of blocks in threads, and what of a matrix needs work at all.
#pragma once
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <new>
#include <vector>

#include "features.h"

namespace fastift {

constexpr int64_t BLOCK = 32;  // a multiple of every tile's rows and columns

inline int64_t padded(int64_t n) { return round_up(n, BLOCK); }

// Rows of `step` numbers, all zero at first. An odd number of cache lines a row keeps columns from falling into the same few sets.
template <typename T>
struct Matrix {
  struct Free {
    void operator()(T* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  int64_t rows, step;
  std::unique_ptr<T[], Free> data;

  Matrix() : rows(0), step(0) {}
  explicit Matrix(int64_t n) : Matrix(n, n) {}
  Matrix(int64_t height, int64_t width) : rows(padded(height)), step(padded(width) + 64 / int64_t(sizeof(T))) {
    data.reset(static_cast<T*>(::operator new[](sizeof(T) * rows * step, std::align_val_t(64))));
    std::fill(data.get(), data.get() + rows * step, T(0));
  }
  T* operator[](int64_t i) const { return data.get() + i * step; }
};

// A left operand: number (i, k) of it lies at data[i * own + k * depth].
template <typename T>
struct Operand {
  const T* data;
  int64_t own, depth;
};

// The block of out = start + sign * left right at rows i, columns j; right's rows are those of a matrix.
template <typename T>
void multiply_block(const Operand<T>& left, const T* right, int64_t right_step, int64_t depth, T sign, const T* start, T* out,
                    int64_t step) {
  const MatrixKernels<T>& k = matrix_kernels<T>();
  for (int64_t j = 0; j < BLOCK; j += k.cols)
    for (int64_t i = 0; i < BLOCK; i += kernels().tile_rows)
      k.tile(left.data + i * left.own, left.own, left.depth, right + j, right_step, depth, sign,
             start == nullptr ? nullptr : start + i * step + j, out + i * step + j, step);
}

// work(i, j) for every block of `rows` x `cols`, or for those on and below the diagonal, in threads where they pay.
template <typename F>
void each_block(int64_t rows, int64_t cols, bool lower, int64_t depth, const F& work) {
  const int64_t high = blocks(rows, BLOCK), wide = blocks(cols, BLOCK);
  const int64_t count = lower ? wide * (wide + 1) / 2 : high * wide;
  // below about two million multiply-adds, waking a thread costs as much as it saves, and far more where cores are busy
  const int64_t grain = std::max<int64_t>(1, (1 << 21) / (BLOCK * BLOCK * std::max<int64_t>(depth, 1)));
  torch::stable::parallel_for(0, count, grain, [&](int64_t from, int64_t to) {
    int64_t i = 0, j = 0;
    if (lower) {
      int64_t skipped = from;
      for (j = 0; skipped >= high - j; j++) skipped -= high - j;
      i = j + skipped;
    } else {
      j = from / high, i = from % high;
    }
    for (int64_t task = from; task < to; task++) {
      work(i * BLOCK, j * BLOCK);
      if (++i == high) {
        j++;
        i = lower ? j : 0;
      }
    }
  });
}

// The block at rows i, columns j written where rows j, columns i are.
template <typename T>
void mirror_block(const Matrix<T>& m, int64_t i, int64_t j) {
  if (i == j) return;
  for (int64_t c = 0; c < BLOCK; c++)
    for (int64_t r = 0; r < BLOCK; r++) m[j + c][i + r] = m[i + r][j + c];
}

// left^T left on and below the diagonal, for `depth` rows of left, added to out with a sign.
template <typename T>
void add_symmetric(const Matrix<T>& left, int64_t first, int64_t depth, int64_t n, T sign, const Matrix<T>& out) {
  each_block(n, n, true, depth, [&](int64_t i, int64_t j) {
    multiply_block<T>({left[first] + i, 1, left.step}, left[first] + j, left.step, depth, sign, out[i] + j, out[i] + j,
                      out.step);
  });
}

// What one look at a matrix [n, n] tells.
template <typename T>
struct Survey {
  T largest = 0;    // magnitude
  T asymmetry = 0;  // largest difference across the diagonal
  bool finite = true;
};

// Marks the channels that have a number off the diagonal; the others need no matrix.
template <typename T>
Survey<T> survey(const T* m, int64_t n, std::vector<char>& coupled) {
  Survey<T> found;
  T zero = 0;
  for (int64_t i0 = 0; i0 < n; i0 += BLOCK)
    for (int64_t j0 = 0; j0 <= i0; j0 += BLOCK)
      for (int64_t i = i0; i < std::min(n, i0 + BLOCK); i++) {
        T far = 0;
        for (int64_t j = j0; j < std::min(i, j0 + BLOCK); j++) {
          const T x = m[i * n + j], y = m[j * n + i], high = std::max(std::abs(x), std::abs(y));
          zero += T(0) * x + T(0) * y;
          found.asymmetry = std::max(found.asymmetry, std::abs(x - y));
          if (high > 0) coupled[j] = 1;
          far = std::max(far, high);
        }
        if (far > 0) coupled[i] = 1;
        found.largest = std::max(found.largest, far);
      }
  for (int64_t i = 0; i < n; i++) {
    zero += T(0) * m[i * n + i];
    found.largest = std::max(found.largest, std::abs(m[i * n + i]));
  }
  found.finite = zero == 0;
  return found;
}

// A = L L^T with the largest remaining diagonal as pivot: row k of `rows` holds column k of L, in the order of A's channels.
struct Cholesky {
  Matrix<double> rows;
  std::vector<int64_t> order;  // pivots first, then the channels that are left
  int64_t rank = 0;
  double left = 0;  // Frobenius norm of what is not factored
};

// a holds the lower triangle and is used up; pivots up to `floor` count as round-off. Where a is indefinite, more than that is left.
// It stops early where the rank exceeds most_rank.
Cholesky pivoted_cholesky(const Matrix<double>& a, int64_t n, double floor, int64_t most_rank);

}  // namespace fastift
