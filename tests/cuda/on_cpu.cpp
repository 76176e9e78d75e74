// The CUDA operations for tests on a CPU: the kernels and their launches as they are, compiled by a C++ compiler.
#include "../../csrc/cuda/kernels.cu"

extern "C" {

void configure(int64_t blocks_at_a_time, int order) {
  fastift::machine().blocks_at_a_time = blocks_at_a_time;
  fastift::machine().order = order;
}

int64_t sqrtm_psd_workspace(int64_t batch, int64_t channels) { return fastift::sqrtm_psd_workspace(batch, channels); }

const char* sqrtm_psd(const void* a, void* root, void* inverse, double* report, double* workspace, int64_t batch,
                      int64_t channels, double eps, bool is_double) {
  return fastift::queue_sqrtm_psd({a, root, inverse, report, workspace, batch, channels, eps, is_double}, nullptr);
}

int64_t ift_solve_workspace(int64_t batch, int64_t channels, bool is_double) {
  return fastift::ift_solve_workspace(batch, channels, is_double);
}

const char* ift_solve(const void* gram, const void* style, const void* c, void* out, void* workspace, double lr, int64_t batch,
                      int64_t channels, int64_t n_upd, int64_t n_iter, bool is_double) {
  return fastift::queue_ift_solve({gram, style, c, out, workspace, lr, batch, channels, n_upd, n_iter, is_double}, nullptr);
}
}
