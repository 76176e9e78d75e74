// Features [B, C, N] as the operations read and write them: any of three dtypes, pixels or channels adjacent in memory.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels.h"

namespace fastift {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
inline int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Uninitialised, for buffers that are written before they are read.
inline std::unique_ptr<float[]> floats(int64_t n) { return std::unique_ptr<float[]>(new float[n]); }

// One sample: where number (channel, pixel) lies, and its dtype.
struct Features {
  char* data;
  ScalarType dtype;
  int64_t channel_step, pixel_step;

  bool pixels_adjacent() const { return pixel_step == 1; }

  char* at(int64_t channel, int64_t pixel) const {
    return data + (channel * channel_step + pixel * pixel_step) * (dtype == ScalarType::Float ? 4 : 2);
  }

  // n adjacent numbers from here as float
  void read(int64_t channel, int64_t pixel, int64_t n, float* out) const {
    const char* from = at(channel, pixel);
    if (dtype == ScalarType::Float)
      std::memcpy(out, from, 4 * n);
    else if (dtype == ScalarType::BFloat16)
      kernels().widen_bfloat16(reinterpret_cast<const uint16_t*>(from), out, n);
    else
      kernels().widen_float16(reinterpret_cast<const uint16_t*>(from), out, n);
  }

  void write(int64_t channel, int64_t pixel, int64_t n, const float* values) const {
    char* to = at(channel, pixel);
    if (dtype == ScalarType::Float)
      std::memcpy(to, values, 4 * n);
    else if (dtype == ScalarType::BFloat16)
      kernels().narrow_bfloat16(values, reinterpret_cast<uint16_t*>(to), n);
    else
      kernels().narrow_float16(values, reinterpret_cast<uint16_t*>(to), n);
  }
};

inline Features sample(const Tensor& x, int64_t b) {
  const int64_t size = x.scalar_type() == ScalarType::Float ? 4 : 2;
  return {static_cast<char*>(x.data_ptr()) + b * x.stride(0) * size, x.scalar_type(), x.stride(1), x.stride(2)};
}

// x itself where pixels or channels are adjacent, else a contiguous copy. An axis of one element has any stride.
inline Tensor adjacent(const Tensor& x) {
  return x.stride(2) == 1 || x.stride(1) == 1 ? x : torch::stable::contiguous(x);
}

// The Python side checks arguments for users; these keep a direct call of the op from reading wild memory.
inline void check_features(const char* op, const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 3 && x.numel() > 0, op, ": x must be a non-empty tensor [B, C, N]");
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Half ||
                      x.scalar_type() == ScalarType::BFloat16,
                  op, ": x must be float32, float16 or bfloat16");
}

inline void check_float(const char* op, const char* name, const Tensor& t, bool fits) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float, op, ": ", name, " must be float32");
  STD_TORCH_CHECK(fits, op, ": ", name, " does not fit the shape of x");
}

}  // namespace fastift
