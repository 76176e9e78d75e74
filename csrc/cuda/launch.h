// The two operations as their host code sees them: pointers to memory of the current device, and a stream. Each returns an error
// in words, or null once its kernels are queued.
#pragma once
#include <cstdint>

namespace fastift {

// What sqrtm_psd says of a matrix, REPORT numbers each: a verdict, a figure that explains it, and the Jacobi sweeps it took.
constexpr int64_t REPORT = 3;
enum Verdict { RIGHT = 0, NOT_FINITE = 1, ASYMMETRIC = 2, INDEFINITE = 3, NOT_CONVERGED = 4 };

struct SqrtmCall {
  const void* a;            // [batch, channels, channels], of doubles or floats
  void *root, *inverse;     // the same
  double* report;           // [batch, REPORT]
  double* workspace;        // sqrtm_psd_workspace(..) numbers
  int64_t batch, channels;
  double eps;
  bool is_double;
};

// Doubles.
int64_t sqrtm_psd_workspace(int64_t batch, int64_t channels);
const char* queue_sqrtm_psd(const SqrtmCall& call, void* stream);

struct SolveCall {
  const void *gram, *style;  // [batch, channels, channels], of doubles or floats
  const void* c;             // [batch]
  void* out;                 // [batch, channels, channels]
  void* workspace;           // ift_solve_workspace(..) numbers
  double lr;
  int64_t batch, channels, n_upd, n_iter;
  bool is_double;
};

// Numbers of the matrices' dtype.
int64_t ift_solve_workspace(int64_t batch, int64_t channels, bool is_double);
const char* queue_ift_solve(const SolveCall& call, void* stream);

}  // namespace fastift
