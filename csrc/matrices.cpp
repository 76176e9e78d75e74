#include "matrices.h"

namespace fastift {

Cholesky pivoted_cholesky(const Matrix<double>& a, int64_t n, double floor) {
  Cholesky found{Matrix<double>(n), {}, 0, true};
  const Matrix<double>& rows = found.rows;
  std::vector<double> left(n);  // the diagonal of what is still to be factored
  std::vector<char> done(n, 0);
  for (int64_t i = 0; i < n; i++) left[i] = a[i][i];
  bool more = true;
  for (int64_t first = 0; first < n && more; first += BLOCK) {
    const int64_t end = std::min(n, first + BLOCK);
    int64_t k = first;
    for (; k < end; k++) {
      int64_t pivot = -1;
      for (int64_t i = 0; i < n; i++)
        if (!done[i] && (pivot < 0 || left[i] > left[pivot])) pivot = i;
      if (!(left[pivot] > floor)) {
        more = false;
        break;
      }
      double* row = rows[k];
      std::copy(a[pivot], a[pivot] + pivot, row);
      for (int64_t i = pivot; i < n; i++) row[i] = a[i][pivot];
      kernels().subtract_rows(rows[first] + pivot, rows.step, rows[first], rows.step, k - first, row, n);
      const double root = std::sqrt(left[pivot]), share = 1 / root;
      done[pivot] = 1;
      found.order.push_back(pivot);
      for (int64_t i = 0; i < n; i++) {
        row[i] = done[i] ? 0 : share * row[i];
        left[i] -= row[i] * row[i];
      }
      row[pivot] = root;
    }
    found.rank = k;
    if (k < n) add_symmetric<double>(rows, first, k - first, n, -1, a);
  }
  for (int64_t i = 0; i < n; i++)
    if (!done[i]) found.order.push_back(i);
  for (int64_t i = found.rank; i < n; i++)
    for (int64_t j = found.rank; j < n; j++) {
      const int64_t p = std::max(found.order[i], found.order[j]), q = std::min(found.order[i], found.order[j]);
      if (!(std::abs(a[p][q]) <= 8 * floor)) found.definite = false;
    }
  return found;
}

}  // namespace fastift
