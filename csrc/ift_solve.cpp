// ift_solve: A <- A - 2 lr (A - anchor) - c (A G A^T - S) A from A = I, all steps in one call.
//
// With G = L L^T (pivoted Cholesky, in double) the iteration runs on W = A L, the features of as many pixels as there are channels:
// W W^T is symmetric, so a step takes one and a half products where A itself takes three, and A = I + U L^-1 at the end for
// U = W - L. Products are in the dtype of the tensors, U is kept in double, so that the steps' round-off does not add up. All
// matrices are stored transposed: then every product reads rows. Where G is not positive semi-definite, L = I and G stays.
#include "matrices.h"

namespace fastift {
namespace {

template <typename T>
struct Problem {
  const T *gram, *style;
  T* out;
  int64_t channels;
  double lr, c;
  int64_t n_upd, n_iter;

  double g(int64_t i, int64_t j) const { return gram[i * channels + j]; }
  double s(int64_t i, int64_t j) const { return style[i * channels + j]; }
};

// A channel on its own.
template <typename T>
T solve_alone(const Problem<T>& p, int64_t i) {
  const double g = p.g(i, i), s = p.s(i, i);
  double a = 1;
  for (int64_t iter = 0; iter < p.n_iter; iter++) {
    const double anchor = a;
    for (int64_t k = 0; k < p.n_upd; k++) a -= 2 * p.lr * (a - anchor) + p.c * (a * g * a - s) * a;
  }
  return static_cast<T>(a);
}

// The coupled channels, and in which form they are iterated.
template <typename T>
class Descent {
 public:
  Descent(const Problem<T>& problem, const Survey<T>& of_gram, const Survey<T>& of_style, const std::vector<int64_t>& coupled)
      : p(problem), n(int64_t(coupled.size())), order(coupled), base(n), moved(n), style(n), residual(n), now(n), next(n) {
    const bool finite = of_gram.finite && of_style.finite;
    // near 1, whatever the features' scale
    const double top = std::max(of_gram.largest, of_style.largest);
    scale = top > 0 && finite ? std::exp2(std::floor(std::log2(top))) : 1;
    const auto even = [](const Survey<T>& m) { return m.asymmetry <= 4 * std::numeric_limits<T>::epsilon() * m.largest; };
    symmetric = finite && even(of_gram) && even(of_style);
    factored = symmetric && factor(of_gram.largest / scale);
    if (!factored) {
      gram = Matrix<T>(n), product = Matrix<T>(n), depth = n;
      for (int64_t i = 0; i < n; i++) {
        base[i][i] = 1;
        for (int64_t j = 0; j < n; j++) gram[i][j] = static_cast<T>(p.g(order[i], order[j]) / scale);
      }
    }
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++) {
        style[i][j] = static_cast<T>(-p.s(order[j], order[i]) / scale);
        now[i][j] = static_cast<T>(base[i][j]);
      }
  }

  void run() {
    Matrix<double> anchor;
    for (int64_t iter = 0; iter < p.n_iter; iter++) {
      if (iter == 1 && p.lr != 0) anchor = Matrix<double>(n);
      if (anchor.data) std::copy(moved[0], moved[moved.rows], anchor[0]);
      for (int64_t k = 0; k < p.n_upd; k++) step(anchor);
    }
  }

  void finish() {
    if (factored) solve_for_a();
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++)
        p.out[order[i] * p.channels + order[j]] = static_cast<T>(moved[j][i] + (i == j));
  }

 private:
  bool factor(double most) {
    Matrix<double> g(n);
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) g[i][j] = p.g(order[i], order[j]) / scale;
    const double round_off = 4e-16 * double(n) * most;
    const Cholesky found = pivoted_cholesky(g, n, round_off, n);
    if (found.left > 8 * round_off) return false;
    depth = found.rank;
    std::vector<int64_t> sorted(n);
    for (int64_t i = 0; i < n; i++) sorted[i] = order[found.order[i]];
    for (int64_t k = 0; k < n; k++) {
      for (int64_t i = k; i < n && k < depth; i++) base[k][i] = found.rows[k][found.order[i]];
      // a direction that G does not see may have any length
      if (k >= depth) base[k][k] = 1;
    }
    order = sorted;
    return true;
  }

  void step(const Matrix<double>& anchor) {
    const T one = 1;
    if (!factored)
      each_block(n, n, false, n, [&](int64_t i, int64_t j) {
        multiply_block<T>({gram[i], gram.step, 1}, now[0] + j, now.step, n, one, nullptr, product[i] + j, product.step);
      });
    const Matrix<T>& left = factored ? now : product;
    // From the last pivot, the smallest, to the first: added to the large terms one by one, the small ones would lose their digits,
    // and what W W^T misses of S at the end is as small as they are.
    const int64_t last = std::max<int64_t>(depth, 1) - 1;
    each_block(n, n, symmetric, depth, [&](int64_t i, int64_t j) {
      multiply_block<T>({left[last] + i, 1, -left.step}, now[last] + j, -now.step, depth, one, style[i] + j, residual[i] + j,
                        residual.step);
      if (symmetric) mirror_block(residual, i, j);
    });
    each_block(n, n, false, n, [&](int64_t i, int64_t j) {
      alignas(64) T gradient[BLOCK * BLOCK];
      multiply_block<T>({now[i], now.step, 1}, residual[0] + j, residual.step, n, one, nullptr, gradient, BLOCK);
      for (int64_t r = 0; r < BLOCK; r++)
        matrix_kernels<T>().descend(moved[i + r] + j, base[i + r] + j, anchor.data ? anchor[i + r] + j : nullptr,
                                    gradient + r * BLOCK, next[i + r] + j, BLOCK, 1 - 2 * p.lr, 2 * p.lr, -p.c * scale);
    });
    std::swap(now, next);
  }

  // L^T (A - I)^T = U^T by blocks of rows from the last.
  void solve_for_a() {
    for (int64_t end = n; end > 0;) {
      const int64_t first = (end - 1) / BLOCK * BLOCK;
      each_block(BLOCK, n, false, BLOCK + n - end, [&](int64_t, int64_t j) {
        if (end < n)
          multiply_block<double>({base[first] + end, base.step, 1}, moved[end] + j, moved.step, n - end, -1,
                                 moved[first] + j, moved[first] + j, moved.step);
        for (int64_t k = end - 1; k >= first; k--) {
          kernels().subtract_rows(base[k] + k + 1, 1, moved[k + 1] + j, moved.step, end - k - 1, moved[k] + j, BLOCK);
          for (int64_t c = 0; c < BLOCK; c++) moved[k][j + c] /= base[k][k];
        }
      });
      end = first;
    }
  }

  const Problem<T>& p;
  int64_t n, depth = 0;
  std::vector<int64_t> order;
  double scale = 1;
  bool symmetric = false, factored = false;
  Matrix<double> base, moved;  // L^T and U^T
  Matrix<T> style, residual, now, next, gram, product;
};

template <typename T>
void solve(const Problem<T>& p) {
  const int64_t n = p.channels;
  std::vector<char> coupled(n, 0);
  const Survey<T> gram = survey(p.gram, n, coupled), style = survey(p.style, n, coupled);
  if (!gram.finite || !style.finite) std::fill(coupled.begin(), coupled.end(), 1);  // the result shall not be finite either
  std::fill(p.out, p.out + n * n, T(0));
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; i++) {
    if (coupled[i])
      order.push_back(i);
    else
      p.out[i * n + i] = solve_alone(p, i);
  }
  if (order.empty()) return;
  Descent<T> descent(p, gram, style, order);
  descent.run();
  descent.finish();
}

template <typename T>
void solve_all(const Tensor& gram, const Tensor& style, double lr, const Tensor& c, int64_t n_upd, int64_t n_iter, Tensor& out) {
  const int64_t channels = gram.size(1), size = channels * channels;
  torch::stable::parallel_for(0, gram.size(0), 1, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; b++)
      solve<T>({gram.const_data_ptr<T>() + b * size, style.const_data_ptr<T>() + b * size,
                out.mutable_data_ptr<T>() + b * size, channels, lr, double(c.const_data_ptr<T>()[b]), n_upd, n_iter});
  });
}

Tensor ift_solve(const Tensor& gram0, const Tensor& style0, double lr, const Tensor& c0, int64_t n_upd, int64_t n_iter) {
  const char* op = "fastift.ift_solve";
  STD_TORCH_CHECK(gram0.dim() == 3 && gram0.size(1) == gram0.size(2), op, ": gram must be [B, C, C]");
  STD_TORCH_CHECK(gram0.scalar_type() == ScalarType::Float || gram0.scalar_type() == ScalarType::Double, op,
                  ": gram must be float32 or float64");
  STD_TORCH_CHECK(style0.dim() == 3 && style0.numel() == gram0.numel() && style0.size(0) == gram0.size(0) &&
                      style0.size(1) == gram0.size(1) && style0.scalar_type() == gram0.scalar_type(),
                  op, ": style must have the shape and dtype of gram");
  STD_TORCH_CHECK(c0.dim() == 1 && c0.size(0) == gram0.size(0) && c0.scalar_type() == gram0.scalar_type(), op,
                  ": c must be [B], of the dtype of gram");
  const Tensor gram = torch::stable::contiguous(gram0), style = torch::stable::contiguous(style0);
  const Tensor c = torch::stable::contiguous(c0);
  Tensor out = torch::stable::new_empty(gram, {gram.size(0), gram.size(1), gram.size(1)});
  (gram.scalar_type() == ScalarType::Float ? solve_all<float> : solve_all<double>)(gram, style, lr, c, n_upd, n_iter, out);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastift_cpp, m) {
  m.def("ift_solve(Tensor gram, Tensor style, float lr, Tensor c, int n_upd, int n_iter) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(fastift_cpp, CPU, m) { m.impl("ift_solve", TORCH_BOX(&ift_solve)); }

}  // namespace fastift
