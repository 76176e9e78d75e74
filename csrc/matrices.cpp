#include "matrices.h"

namespace fastift {

Cholesky pivoted_cholesky(const Matrix<double>& a, int64_t n, double floor, int64_t most_rank) {
  Cholesky found{Matrix<double>(n), {}, 0, 0};
  const Matrix<double>& rows = found.rows;
  // padded like the rows: the diagonal of what is still to be factored, and 1 for channels that are not pivots yet
  Matrix<double> diagonal(1, n), open(1, n);
  double largest = 0;
  for (int64_t i = 0; i < n; i++) {
    diagonal[0][i] = a[i][i];
    open[0][i] = 1;
    largest = std::max(largest, a[i][i]);
  }
  for (int64_t first = 0; first < n && largest > floor && found.rank <= most_rank; first += BLOCK) {
    int64_t k = first;
    for (; k < std::min(n, first + BLOCK) && largest > floor; k++) {
      const int64_t pivot = std::find(diagonal[0], diagonal[0] + n, largest) - diagonal[0];
      double* row = rows[k];
      std::copy(a[pivot], a[pivot] + pivot, row);
      for (int64_t i = pivot; i < n; i++) row[i] = a[i][pivot];
      kernels().subtract_rows(rows[first] + pivot, rows.step, rows[first], rows.step, k - first, row, n);
      const double root = std::sqrt(largest);
      open[0][pivot] = 0;
      found.order.push_back(pivot);
      largest = kernels().take_pivot(row, diagonal[0], open[0], 1 / root, padded(n));
      row[pivot] = root;
    }
    found.rank = k;
    if (k < n) add_symmetric<double>(rows, first, k - first, n, -1, a);
  }
  for (int64_t i = 0; i < n; i++)
    if (open[0][i] != 0) found.order.push_back(i);
  for (int64_t i = found.rank; i < n; i++)
    for (int64_t j = found.rank; j < n; j++) {
      const int64_t p = std::max(found.order[i], found.order[j]), q = std::min(found.order[i], found.order[j]);
      found.left += a[p][q] * a[p][q];
    }
  found.left = std::sqrt(found.left);
  return found;
}

}  // namespace fastift
