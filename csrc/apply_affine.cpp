// apply_affine: weight x + bias, by region with soft masks if there are any, in one read and one write of the features.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <vector>

#include "features.h"

namespace fastift {
namespace {

constexpr int64_t PANELS = 8;  // of pixels in a block, which is what a thread works on at a time

// What the threads share: maps in float, transposed into panels where channels are adjacent.
struct Maps {
  int64_t channels, regions, padded;
  std::unique_ptr<float[]> weight;

  // rows: [map][padded rows][channels]; else [map][panel of output channels][channel][tile_cols]
  Maps(const float* given, int64_t maps, int64_t c, int64_t r, bool rows) : channels(c), regions(r) {
    const int64_t step = rows ? kernels().tile_rows : kernels().tile_cols;
    padded = round_up(c, step);
    weight = floats(maps * padded * c);
    for (int64_t m = 0; m < maps; m++)
      for (int64_t i = 0; i < padded; i++)
        for (int64_t k = 0; k < c; k++) {
          const int64_t at = rows ? i * c + k : ((i / step) * c + k) * step + i % step;
          weight[m * padded * c + at] = i < c ? given[(m * c + i) * c + k] : 0.f;
        }
  }
};

// One block of pixels whose rows of memory are pixels: tiles of output channels x pixels.
void by_rows(const Features& x, const Features& out, const Maps& maps, const float* weight, const float* bias,
             const float* mask, int64_t mask_step, int64_t first, int64_t count, float* packed) {
  const Kernels& k = kernels();
  const int64_t c = maps.channels, width = k.tile_cols;
  float tile[MOST_TILE], sum[MOST_TILE];
  for (int64_t p = 0; p < count; p += width) {
    const int64_t n = std::min(width, count - p);
    for (int64_t i = 0; i < c; i++) {
      x.read(i, first + p, n, packed + i * width);
      std::fill(packed + i * width + n, packed + (i + 1) * width, 0.f);
    }
    for (int64_t i = 0; i < c; i += k.tile_rows) {
      for (int64_t r = 0; r < maps.regions; r++) {
        const float* w = weight + r * maps.padded * c;
        k.multiply_tile(w + i * c, c, 1, packed, width, c, tile);
        for (int64_t row = 0; row < std::min(k.tile_rows, c - i); row++) {
          float* values = tile + row * width;
          const float shift = bias[r * c + i + row];
          if (mask == nullptr)
            for (int64_t j = 0; j < width; j++) sum[row * width + j] = values[j] + shift;
          else
            for (int64_t j = 0; j < n; j++) {
              const float share = mask[r * mask_step + first + p + j] * (values[j] + shift);
              sum[row * width + j] = r ? sum[row * width + j] + share : share;
            }
        }
      }
      for (int64_t row = 0; row < std::min(k.tile_rows, c - i); row++) out.write(i + row, first + p, n, sum + row * width);
    }
  }
}

// The same where rows of memory are channels: tiles of pixels x output channels.
void by_channels(const Features& x, const Features& out, const Maps& maps, const float* weight, const float* bias,
                 const float* mask, int64_t mask_step, int64_t first, int64_t count, float* packed) {
  const Kernels& k = kernels();
  const int64_t c = maps.channels, width = k.tile_cols;
  float tile[MOST_TILE], sum[MOST_TILE];
  for (int64_t p = 0; p < count; p += k.tile_rows) {
    const int64_t n = std::min(k.tile_rows, count - p);
    for (int64_t row = 0; row < k.tile_rows; row++) {
      if (row < n) x.read(0, first + p + row, c, packed + row * c);
      else std::fill(packed + row * c, packed + (row + 1) * c, 0.f);
    }
    for (int64_t i = 0; i < c; i += width) {
      const int64_t here = std::min(width, c - i);
      for (int64_t r = 0; r < maps.regions; r++) {
        k.multiply_tile(packed, c, 1, weight + r * maps.padded * c + i * c, width, c, tile);
        for (int64_t row = 0; row < n; row++) {
          const float share = mask == nullptr ? 1.f : mask[r * mask_step + first + p + row];
          for (int64_t j = 0; j < here; j++) {
            const float value = share * (tile[row * width + j] + bias[r * c + i + j]);
            sum[row * width + j] = r ? sum[row * width + j] + value : value;
          }
        }
      }
      for (int64_t row = 0; row < n; row++) out.write(i, first + p + row, here, sum + row * width);
    }
  }
}

Tensor apply_affine(const Tensor& x0, const Tensor& weight0, const Tensor& bias0, const std::optional<Tensor>& mask0) {
  const char* op = "fastift.apply_affine";
  check_features(op, x0);
  const Tensor x = adjacent(x0);
  const int64_t batch = x.size(0), c = x.size(1), n = x.size(2);
  const int64_t regions = mask0 ? mask0->dim() == 3 ? mask0->size(1) : 0 : 1;
  const int64_t own = weight0.size(0) == 1 ? 0 : 1;  // one map for all samples, or one each
  const int64_t samples = own ? batch : 1;
  check_float(op, "weight", weight0,
              weight0.numel() == samples * regions * c * c && weight0.dim() == (mask0 ? 4 : 3));
  check_float(op, "bias", bias0, bias0.numel() == samples * regions * c);
  const Tensor weight = torch::stable::contiguous(weight0), bias = torch::stable::contiguous(bias0);
  std::optional<Tensor> mask;
  if (mask0) {
    check_float(op, "mask", *mask0, mask0->size(0) == batch && mask0->size(2) == n);
    mask = mask0->stride(2) == 1 ? *mask0 : torch::stable::contiguous(*mask0);
  }
  const bool rows = x.stride(2) == 1;
  const Kernels& k = kernels();
  const Maps maps(weight.const_data_ptr<float>(), samples * regions, c, regions, rows);
  Tensor out = rows ? torch::stable::new_empty(x, {batch, c, n})
                    : torch::stable::transpose(torch::stable::new_empty(x, {batch, n, c}), 1, 2);
  const int64_t block = PANELS * k.tile_cols, count = blocks(n, block);
  const float* all_bias = bias.const_data_ptr<float>();
  torch::stable::parallel_for(0, batch * count, std::max<int64_t>(1, 32768 / (block * c)), [&](int64_t from, int64_t to) {
    const auto packed = floats(c * std::max(k.tile_cols, k.tile_rows));
    for (int64_t task = from; task < to; task++) {
      const int64_t b = task / count, first = task % count * block;
      const float* m = mask ? mask->const_data_ptr<float>() + b * mask->stride(0) : nullptr;
      (rows ? by_rows : by_channels)(sample(x, b), sample(out, b), maps,
                                     maps.weight.get() + own * b * regions * maps.padded * c, all_bias + own * b * regions * c,
                                     m, mask ? mask->stride(1) : 0, first, std::min(block, n - first), packed.get());
    }
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastift_cpp, m) {
  m.def("apply_affine(Tensor x, Tensor weight, Tensor bias, Tensor? mask=None) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(fastift_cpp, CPU, m) { m.impl("apply_affine", TORCH_BOX(&apply_affine)); }

}  // namespace fastift
