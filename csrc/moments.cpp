// moments: pixel count, mean and uncentred Gram in one read of the features.
//
// Pixels are cut into parts by the shape alone, never by the number of threads, and the parts are added in order: the same
// input gives the same bits on any number of threads. Within a part, a block of pixels that fits the second-level cache is
// packed as float, and its products are added to sums in double: the result is more exact than a plain float32 product.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "features.h"

namespace fastift {
namespace {

constexpr int64_t BLOCK_BYTES = 1 << 18;
constexpr int64_t MOST_PIXELS = 4096;       // of a block of rows, whose sums are spread over a vector: more would lose digits
constexpr int64_t MOST_IN_A_SUM = 512;      // of a block of panels, where one float adds up all
constexpr int64_t PART_PIXELS = 1 << 12;    // fewer are not worth a thread
constexpr int64_t SUM_BYTES = 32 << 20;     // for the sums of all parts
constexpr int64_t FEW_CHANNELS = 100;       // below, a dot product of rows is cheaper than transposing them

// How one call walks its features, all from the shape.
struct Layout {
  int64_t channels, pixels;
  bool by_rows;            // blocks [channel][pixel], else panels [panel][pixel][tile_cols]
  int64_t padded;          // channels, rounded up to whole tiles
  int64_t block;           // pixels of a block
  int64_t parts, part;     // parts, and pixels of each

  Layout(int64_t c, int64_t n, bool pixels_adjacent, int64_t samples) : channels(c), pixels(n) {
    const Kernels& k = kernels();
    by_rows = pixels_adjacent && c < FEW_CHANNELS;
    padded = round_up(c, by_rows ? DOT_ALIGN : k.tile_cols);
    const int64_t most = by_rows ? MOST_PIXELS : MOST_IN_A_SUM;
    block = std::clamp<int64_t>(BLOCK_BYTES / (4 * padded), 64, most) / k.lanes * k.lanes;
    const int64_t room = std::max<int64_t>(1, SUM_BYTES / (8 * sums() * samples));
    parts = std::clamp<int64_t>(blocks(n, PART_PIXELS), 1, std::min<int64_t>(room, 64));
    part = round_up(blocks(n, parts), block);
    parts = blocks(n, part);
  }

  int64_t sums() const { return padded * padded + padded + 1; }  // Gram, sum, weight
};

// Pixels [first, first + count) as a block, zero where it is padded; multiplied by the weights if there are any.
void pack(const Layout& layout, const Features& x, int64_t first, int64_t count, int64_t depth, float* out) {
  const Kernels& k = kernels();
  const int64_t c = layout.channels;
  if (layout.by_rows) {
    for (int64_t i = 0; i < layout.padded; i++) {
      float* row = out + i * depth;
      if (i < c) x.read(i, first, count, row);
      std::fill(row + (i < c ? count : 0), row + depth, 0.f);
    }
    return;
  }
  const int64_t width = k.tile_cols;
  if (x.pixels_adjacent()) {
    std::fill(out, out + layout.padded * depth, 0.f);
    const auto row = floats(count);
    for (int64_t i = 0; i < c; i++) {
      x.read(i, first, count, row.get());
      float* to = out + (i / width) * depth * width + i % width;
      for (int64_t p = 0; p < count; p++) to[p * width] = row[p];
    }
    return;
  }
  for (int64_t panel = 0; panel * width < c; panel++) {
    const int64_t n = std::min(width, c - panel * width);
    for (int64_t p = 0; p < depth; p++) {
      float* to = out + (panel * depth + p) * width;
      if (p < count) x.read(panel * width, first + p, n, to);
      std::fill(to + (p < count ? n : 0), to + width, 0.f);
    }
  }
}

void scale(const Layout& layout, const float* x, const float* weight, int64_t depth, float* out) {
  const int64_t width = layout.by_rows ? 1 : kernels().tile_cols;
  for (int64_t i = 0; i < layout.padded / width; i++)
    for (int64_t p = 0; p < depth; p++)
      for (int64_t j = 0; j < width; j++) {
        const int64_t at = (i * depth + p) * width + j;
        out[at] = x[at] * weight[p];
      }
}

// Adds the moments of one part, times its pixels, to sums[region] = Gram [padded, padded], sum [padded], weight.
void add_part(const Layout& layout, const Features& x, const Tensor* weight, int64_t b, int64_t part, double* sums) {
  const Kernels& k = kernels();
  const int64_t begin = part * layout.part, end = std::min(layout.pixels, begin + layout.part);
  const int64_t regions = weight ? weight->size(1) : 1;
  const auto packed = floats(layout.padded * layout.block), weighted = floats(weight ? layout.padded * layout.block : 0);
  std::vector<float> w(weight ? layout.block : 0);
  for (int64_t first = begin; first < end; first += layout.block) {
    const int64_t count = std::min(layout.block, end - first);
    const int64_t depth = round_up(count, k.lanes);
    pack(layout, x, first, count, depth, packed.get());
    for (int64_t r = 0; r < regions; r++) {
      double* gram = sums + r * layout.sums();
      double* total = gram + layout.padded * layout.padded;
      const float* left = packed.get();
      if (weight) {
        const float* from = weight->const_data_ptr<float>() + b * weight->stride(0) + r * weight->stride(1) + first;
        std::fill(std::copy(from, from + count, w.begin()), w.begin() + depth, 0.f);
        for (int64_t p = 0; p < count; p++) total[layout.padded] += w[p];
        scale(layout, packed.get(), w.data(), depth, weighted.get());
        left = weighted.get();
      }
      if (layout.by_rows) {
        k.gram_of_rows(left, packed.get(), layout.padded, depth, gram);
        k.sum_rows(left, layout.padded, depth, total);
      } else {
        k.gram_of_panels(left, packed.get(), layout.padded / k.tile_cols, depth, gram);
        k.sum_panels(left, layout.padded / k.tile_cols, depth, total);
      }
    }
  }
}

std::tuple<Tensor, Tensor, Tensor> moments(const Tensor& x0, const std::optional<Tensor>& weight0) {
  check_features("fastift.moments", x0);
  const Tensor x = adjacent(x0);
  const int64_t batch = x.size(0), c = x.size(1), n = x.size(2);
  std::optional<Tensor> weight;
  if (weight0) {
    check_float("fastift.moments", "weight", *weight0,
                weight0->dim() == 3 && weight0->size(0) == batch && weight0->size(2) == n);
    weight = weight0->stride(2) == 1 ? *weight0 : torch::stable::contiguous(*weight0);
  }
  const int64_t regions = weight ? weight->size(1) : 1;
  const Layout layout(c, n, x.stride(2) == 1, batch * regions);
  const int64_t tasks = batch * layout.parts, size = regions * layout.sums();
  // zeroed by the threads that use it
  const std::unique_ptr<double[]> sums(new double[tasks * size]);
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; task++) {
      double* own = sums.get() + task * size;
      std::fill(own, own + size, 0.0);
      const int64_t b = task / layout.parts;
      add_part(layout, sample(x, b), weight ? &*weight : nullptr, b, task % layout.parts, own);
    }
  });

  const auto make = [&](std::vector<int64_t> tail) {
    std::vector<int64_t> shape = {batch};
    if (weight) shape.push_back(regions);
    shape.insert(shape.end(), tail.begin(), tail.end());
    return torch::stable::new_empty(x, shape, ScalarType::Float);
  };
  Tensor count = make({}), mean = make({c}), gram = make({c, c});
  float *count_out = count.mutable_data_ptr<float>(), *mean_out = mean.mutable_data_ptr<float>();
  float* gram_out = gram.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, batch * regions * c, std::max<int64_t>(1, 4096 / c), [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const int64_t map = row / c, i = row % c, b = map / regions, r = map % regions;
      const auto added = [&](int64_t at) {
        double total = 0;
        for (int64_t part = 0; part < layout.parts; part++)
          total += sums[(b * layout.parts + part) * size + r * layout.sums() + at];
        return total;
      };
      const double pixels = weight ? added(layout.sums() - 1) : static_cast<double>(n);
      const double share = pixels > 0 ? 1 / pixels : 0;
      if (i == 0) count_out[map] = static_cast<float>(pixels);
      mean_out[map * c + i] = static_cast<float>(share * added(layout.padded * layout.padded + i));
      for (int64_t j = 0; j <= i; j++) {
        const float value = static_cast<float>(share * added(i * layout.padded + j));
        gram_out[(map * c + i) * c + j] = value;
        gram_out[(map * c + j) * c + i] = value;
      }
    }
  });
  return {count, mean, gram};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastift_cpp, m) {
  m.def("moments(Tensor x, Tensor? weight=None) -> (Tensor n, Tensor mean, Tensor gram)");
}
STABLE_TORCH_LIBRARY_IMPL(fastift_cpp, CPU, m) { m.impl("moments", TORCH_BOX(&moments)); }

}  // namespace fastift
