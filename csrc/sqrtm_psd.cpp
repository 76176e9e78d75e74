// sqrtm_psd: square root and inverse square root of positive semi-definite matrices, in double inside.
//
// What costs is the eigensolver, LAPACK's through torch.linalg.eigh; here is what keeps its matrix small. Channels without a
// number off the diagonal are roots of one number. Of the rest, where the floor on eigenvalues allows, L L^T = A (pivoted
// Cholesky) shows the rank r: L^T L is r x r, has A's other eigenvalues, and L maps its eigenvectors to A's.
#include <array>
#include <optional>
#include <string>
#include <tuple>

#include "matrices.h"

namespace fastift {
namespace {

constexpr double ASYMMETRY = 1e-3;      // as in the reference
constexpr double SMALLEST = 1e-290;     // stands for the largest number of the zero matrix
constexpr int64_t FEW_CHANNELS = 24;    // below, the eigensolver is not worth preparing for
constexpr double LEAST_PIVOT = 1e-10;   // of the largest
constexpr double WORTH_REDUCING = 0.8;  // of the channels: above, the way through L costs as much as it saves

enum Verdict { GOOD = 0, NOT_FINITE = 1, ASYMMETRIC = 2, INDEFINITE = 3, NOT_CONVERGED = 4 };

struct Eigen {
  Tensor values, vectors;
};

// Of the lower triangle; nothing where it does not converge.
std::optional<Eigen> eigh(const Tensor& a) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(a), torch::stable::detail::from(std::string("L"))};
  if (torch_call_dispatcher("aten::linalg_eigh", "", stack.data(), TORCH_ABI_VERSION) != 0) return std::nullopt;
  return Eigen{torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

// Eigenvalues of the coupled channels, with zero for those that L leaves out, and eigenvectors as rows, in either store.
struct Spectrum {
  std::vector<double> values;
  int64_t vectors;
  std::optional<Tensor> tensor;
  Matrix<double> matrix;

  const double* vector(int64_t k) const {
    return tensor ? tensor->const_data_ptr<double>() + k * tensor->size(1) : matrix[k];
  }
};

template <typename T>
class Roots {
 public:
  Roots(const T* a, int64_t channels, double eps, T* root, T* inverse)
      : a(a), channels(channels), eps(eps), root(root), inverse(inverse) {}

  Verdict solve(const Tensor& like) {
    std::fill(root, root + channels * channels, T(0));
    std::fill(inverse, inverse + channels * channels, T(0));
    const Verdict seen = look();
    if (seen != GOOD) return seen;
    double top = 0, most = 0;
    for (int64_t i = 0; i < channels; i++)
      if (!coupled[i]) note(double(a[i * channels + i]) / scale, top, most);
    if (!order.empty()) {
      if (!decompose(like)) return NOT_CONVERGED;
      for (const double value : spectrum.values) note(value, top, most);
    }
    if (least < -ASYMMETRY * most) return INDEFINITE;
    const double floor = eps * top, unit = std::sqrt(scale);
    for (int64_t i = 0; i < channels; i++) {
      const double value = coupled[i] ? 0 : double(a[i * channels + i]) / scale;
      if (!(value > floor)) continue;
      root[i * channels + i] = static_cast<T>(std::sqrt(value) * unit);
      inverse[i * channels + i] = static_cast<T>(1 / (std::sqrt(value) * unit));
    }
    if (!order.empty()) {
      write(floor, 0.25, unit, root);
      write(floor, -0.25, 1 / unit, inverse);
    }
    return GOOD;
  }

  double smallest() const { return least * scale; }

 private:
  void note(double value, double& top, double& most) {
    top = std::max(top, value);
    most = std::max(most, std::abs(value));
    least = std::min(least, value);
  }

  Verdict look() {
    coupled.assign(channels, 0);
    const Survey<T> seen = survey(a, channels, coupled);
    if (!seen.finite) return NOT_FINITE;
    if (double(seen.asymmetry) > ASYMMETRY * double(seen.largest)) return ASYMMETRIC;
    symmetric = seen.asymmetry == 0;
    // near the largest number, and a power of two: dividing by it is exact
    scale = std::exp2(std::floor(std::log2(std::max(double(seen.largest), SMALLEST))));
    for (int64_t i = 0; i < channels; i++)
      if (coupled[i]) order.push_back(i);
    return GOOD;
  }

  double at(int64_t i, int64_t j) const {
    const int64_t p = order[i], q = order[j];
    const double x = double(a[p * channels + q]) / scale;
    return symmetric ? x : 0.5 * (x + double(a[q * channels + p]) / scale);
  }

  bool decompose(const Tensor& like) {
    const int64_t n = int64_t(order.size());
    if (sizeof(T) == 8 && n >= FEW_CHANNELS && eps > 0 && reduce(like)) return true;
    Tensor whole = torch::stable::new_empty(like, {n, n}, ScalarType::Double);
    double* to = whole.mutable_data_ptr<double>();
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) to[i * n + j] = at(i, j);
    const std::optional<Eigen> found = eigh(whole);
    if (!found) return false;
    take_values(found->values, n);
    spectrum.tensor = rows_of(found->vectors);
    return true;
  }

  // The same through L, of fewer columns than channels: false where the matrix has full rank or the floor is too low for it.
  bool reduce(const Tensor& like) {
    const int64_t n = int64_t(order.size());
    Matrix<double> lower(n);
    double most = 0, trace = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
      for (int64_t j = 0; j <= i; j++) {
        lower[i][j] = at(i, j);
        squares += (j < i ? 2 : 1) * lower[i][j] * lower[i][j];
      }
      most = std::max(most, lower[i][i]);
      trace += lower[i][i];
    }
    if (!(most > 0 && trace > 0)) return false;
    const int64_t most_rank = int64_t(WORTH_REDUCING * double(n));
    const Cholesky found = pivoted_cholesky(lower, n, 1e-16 * std::max<double>(16, double(n)) * most, most_rank);
    const int64_t r = found.rank;
    if (r == 0 || r > most_rank) return false;
    // of smaller eigenvalues the direct way keeps a digit more
    if (std::pow(found.rows[r - 1][found.order[r - 1]], 2) < LEAST_PIVOT * most) return false;
    // what is left out must be round-off, and none of its eigenvalues may reach the floor; top is at least sum l^2 / sum l
    const double top = std::max(most, squares / trace);
    if (found.left > std::min(0.5 * eps, 1e-13) * top) return false;
    Matrix<double> columns(n, r), product(r);  // L, and L^T L
    for (int64_t i = 0; i < n; i++)
      for (int64_t k = 0; k < r; k++) columns[i][k] = found.rows[k][i];
    add_symmetric<double>(columns, 0, n, r, 1, product);
    Tensor small = torch::stable::new_empty(like, {r, r}, ScalarType::Double);
    double* to = small.mutable_data_ptr<double>();
    for (int64_t i = 0; i < r; i++)
      std::copy(product[i], product[i] + i + 1, to + i * r);
    const std::optional<Eigen> eigen = eigh(small);
    if (!eigen) return false;
    take_values(eigen->values, r);
    const Tensor vectors = rows_of(eigen->vectors);
    const double* from = vectors.const_data_ptr<double>();
    Matrix<double> left(r);
    for (int64_t k = 0; k < r; k++) {
      const double value = spectrum.values[k], share = value > 0 ? 1 / std::sqrt(value) : 0;
      for (int64_t m = 0; m < r; m++) left[k][m] = share * from[k * r + m];
    }
    spectrum.matrix = Matrix<double>(r, n);
    each_block(r, n, false, r, [&](int64_t k, int64_t j) {
      multiply_block<double>({left[k], left.step, 1}, found.rows[0] + j, found.rows.step, r, 1, nullptr,
                             spectrum.matrix[k] + j, spectrum.matrix.step);
    });
    spectrum.values.push_back(0);  // of the directions that L leaves out
    return true;
  }

  void take_values(const Tensor& values, int64_t n) {
    const double* from = values.const_data_ptr<double>();
    spectrum.values.assign(from, from + n);
    spectrum.vectors = n;
  }

  // Eigenvectors come as columns, mostly of a matrix stored by columns.
  static Tensor rows_of(const Tensor& vectors) { return torch::stable::contiguous(torch::stable::transpose(vectors, 0, 1)); }

  // out = unit * sum over kept of value^(2 power) v v^T, symmetric to the bit.
  void write(double floor, double power, double unit, T* out) const {
    const int64_t n = int64_t(order.size());
    Matrix<double> scaled(spectrum.vectors, n), sum(n);
    int64_t kept = 0;
    for (int64_t k = 0; k < spectrum.vectors; k++) {
      if (!(spectrum.values[k] > floor)) continue;
      const double share = std::pow(spectrum.values[k], power);
      const double* from = spectrum.vector(k);
      double* to = scaled[kept++];
      for (int64_t j = 0; j < n; j++) to[j] = share * from[j];
    }
    each_block(n, n, true, kept, [&](int64_t i, int64_t j) {
      multiply_block<double>({scaled[0] + i, 1, scaled.step}, scaled[0] + j, scaled.step, kept, 1, nullptr, sum[i] + j, sum.step);
      for (int64_t p = i; p < std::min(n, i + BLOCK); p++)
        for (int64_t q = j; q < std::min(p + 1, j + BLOCK); q++) {
          const T value = static_cast<T>(unit * sum[p][q]);
          out[order[p] * channels + order[q]] = value;
          out[order[q] * channels + order[p]] = value;
        }
    });
  }

  const T* a;
  int64_t channels;
  double eps;
  T *root, *inverse;
  double scale = SMALLEST, least = 0;
  bool symmetric = true;
  std::vector<char> coupled;
  std::vector<int64_t> order;  // the coupled channels
  Spectrum spectrum;
};

template <typename T>
void solve_all(const Tensor& a, double eps, Tensor& root, Tensor& inverse, Tensor& report) {
  const int64_t batch = a.size(0), n = a.size(1);
  double* verdicts = report.mutable_data_ptr<double>();
  torch::stable::parallel_for(0, batch, 1, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; b++) {
      Roots<T> roots(a.const_data_ptr<T>() + b * n * n, n, eps, root.mutable_data_ptr<T>() + b * n * n,
                     inverse.mutable_data_ptr<T>() + b * n * n);
      verdicts[2 * b] = roots.solve(a);
      verdicts[2 * b + 1] = roots.smallest();
    }
  });
}

// report: for each matrix the verdict, and its smallest eigenvalue or zero
std::tuple<Tensor, Tensor, Tensor> sqrtm_psd(const Tensor& a0, double eps) {
  STD_TORCH_CHECK(a0.dim() == 3 && a0.size(1) == a0.size(2) && a0.numel() > 0, "fastift.sqrtm_psd: a must be a non-empty [B, C, C]");
  const bool single = a0.scalar_type() == ScalarType::Float;
  STD_TORCH_CHECK(single || a0.scalar_type() == ScalarType::Double, "fastift.sqrtm_psd: a must be float32 or float64");
  const Tensor a = torch::stable::contiguous(a0);
  const int64_t batch = a.size(0), n = a.size(1);
  Tensor root = torch::stable::new_empty(a, {batch, n, n}), inverse = torch::stable::new_empty(a, {batch, n, n});
  Tensor report = torch::stable::new_empty(a, {batch, 2}, ScalarType::Double);
  (single ? solve_all<float> : solve_all<double>)(a, eps, root, inverse, report);
  return {root, inverse, report};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastift_cpp, m) {
  m.def("sqrtm_psd(Tensor a, float eps) -> (Tensor root, Tensor inverse, Tensor report)");
}
STABLE_TORCH_LIBRARY_IMPL(fastift_cpp, CPU, m) { m.impl("sqrtm_psd", TORCH_BOX(&sqrtm_psd)); }

}  // namespace fastift
