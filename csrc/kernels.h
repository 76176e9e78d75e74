// The inner loops that exist once for each instruction set, and the set that this processor has.
#pragma once
#include <cstdint>

namespace fastift {

constexpr int64_t DOT_ALIGN = 4;  // gram_of_rows takes a multiple of this many rows

// For C x C matrices of float or double: tiles of tile_rows x cols.
template <typename T>
struct MatrixKernels {
  int64_t cols;
  void (*tile)(const T* a, int64_t row_step, int64_t k_step, const T* b, int64_t b_step, int64_t depth, T sign, const T* start,
               T* out, int64_t step);
  void (*descend)(double* moved, const double* base, const double* anchor, const T* gradient, T* now, int64_t n, double keep,
                  double pull, double step);
};

struct Kernels {
  int64_t tile_rows, tile_cols, lanes;
  void (*multiply_tile)(const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t b_step, int64_t depth,
                        float* tile);
  void (*gram_of_rows)(const float* a, const float* b, int64_t rows, int64_t depth, double* gram);
  void (*gram_of_panels)(const float* a, const float* b, int64_t panels, int64_t depth, double* gram);
  void (*sum_rows)(const float* x, int64_t rows, int64_t depth, double* sums);
  void (*sum_panels)(const float* x, int64_t panels, int64_t depth, double* sums);
  void (*widen_bfloat16)(const uint16_t* x, float* out, int64_t n);
  void (*narrow_bfloat16)(const float* x, uint16_t* out, int64_t n);
  void (*widen_float16)(const uint16_t* x, float* out, int64_t n);
  void (*narrow_float16)(const float* x, uint16_t* out, int64_t n);
  void (*subtract_rows)(const double* factor, int64_t factor_step, const double* rows, int64_t step, int64_t count, double* out,
                        int64_t n);
  double (*take_pivot)(double* row, double* diagonal, const double* open, double share, int64_t n);
  MatrixKernels<float> of_float;
  MatrixKernels<double> of_double;
};

constexpr int64_t MOST_TILE = 8 * 32;  // numbers in the largest tile of any instruction set

const Kernels& kernels();

template <typename T>
const MatrixKernels<T>& matrix_kernels() {
  if constexpr (sizeof(T) == 4)
    return kernels().of_float;
  else
    return kernels().of_double;
}

}  // namespace fastift
