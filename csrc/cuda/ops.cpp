// The CUDA operations as PyTorch sees them: arguments checked, memory from its allocator, its current stream.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <tuple>

#include "launch.h"

// Weak, so that the library also loads where torch was built without CUDA, and can be tested there.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

namespace fastift {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t MOST_CHANNELS = 16384;  // indices within a matrix are int

void* current_stream(const Tensor& x) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "fastift: this torch was built without CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return stream;
}

void check_matrices(const char* op, const char* name, const Tensor& x, const Tensor& like) {
  const bool right = x.dim() == 3 && x.size(1) == x.size(2) && x.size(0) == like.size(0) && x.size(1) == like.size(1) &&
                     x.numel() > 0 && x.size(1) <= MOST_CHANNELS;
  STD_TORCH_CHECK(right, op, ": ", name, " must be [B, C, C] of one shape, not empty, C at most ", MOST_CHANNELS);
  const bool dtype = x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(dtype && x.scalar_type() == like.scalar_type(), op, ": ", name, " must be float32 or float64, all alike");
  STD_TORCH_CHECK(x.is_cuda() && x.get_device_index() == like.get_device_index(), op, ": ", name, " must be on one GPU");
}

void check_queued(const char* op, const char* why) {
  STD_TORCH_CHECK(why == nullptr, op, ": the kernel cannot be started (", why == nullptr ? "" : why, ")");
}

// Roots, inverse roots, and a report on each matrix as in launch.h. Does not wait for the GPU.
std::tuple<Tensor, Tensor, Tensor> sqrtm_psd(const Tensor& a0, double eps) {
  const char* op = "fastift.sqrtm_psd";
  check_matrices(op, "a", a0, a0);
  torch::stable::accelerator::DeviceGuard guard(a0.get_device_index());
  const Tensor a = torch::stable::contiguous(a0);
  const int64_t batch = a.size(0), channels = a.size(1);
  Tensor root = torch::stable::new_empty(a, {batch, channels, channels});
  Tensor inverse = torch::stable::new_empty(a, {batch, channels, channels});
  Tensor report = torch::stable::new_empty(a, {batch, REPORT}, ScalarType::Double);
  Tensor workspace = torch::stable::new_empty(a, {sqrtm_psd_workspace(batch, channels)}, ScalarType::Double);
  const SqrtmCall call = {a.data_ptr(),
                          root.data_ptr(),
                          inverse.data_ptr(),
                          report.mutable_data_ptr<double>(),
                          static_cast<double*>(workspace.data_ptr()),
                          batch,
                          channels,
                          eps,
                          a.scalar_type() == ScalarType::Double};
  check_queued(op, queue_sqrtm_psd(call, current_stream(a)));
  return {root, inverse, report};
}

Tensor ift_solve(const Tensor& gram0, const Tensor& style0, double lr, const Tensor& c0, int64_t n_upd, int64_t n_iter) {
  const char* op = "fastift.ift_solve";
  check_matrices(op, "gram", gram0, gram0);
  check_matrices(op, "style", style0, gram0);
  const bool right = c0.dim() == 1 && c0.size(0) == gram0.size(0) && c0.scalar_type() == gram0.scalar_type() &&
                     c0.is_cuda() && c0.get_device_index() == gram0.get_device_index();
  STD_TORCH_CHECK(right, op, ": c must be [B], of gram's dtype and on its GPU");
  torch::stable::accelerator::DeviceGuard guard(gram0.get_device_index());
  const Tensor gram = torch::stable::contiguous(gram0), style = torch::stable::contiguous(style0);
  const Tensor c = torch::stable::contiguous(c0);
  const int64_t batch = gram.size(0), channels = gram.size(1);
  const bool is_double = gram.scalar_type() == ScalarType::Double;
  Tensor out = torch::stable::new_empty(gram, {batch, channels, channels});
  Tensor workspace = torch::stable::new_empty(gram, {ift_solve_workspace(batch, channels, is_double)});
  const SolveCall call = {gram.data_ptr(), style.data_ptr(), c.data_ptr(), out.data_ptr(), workspace.data_ptr(),
                          lr,              batch,            channels,     n_upd,          n_iter,
                          is_double};
  check_queued(op, queue_ift_solve(call, current_stream(gram)));
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastift_cuda, m) {
  m.def("sqrtm_psd(Tensor a, float eps) -> (Tensor root, Tensor inverse, Tensor report)");
  m.def("ift_solve(Tensor gram, Tensor style, float lr, Tensor c, int n_upd, int n_iter) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(fastift_cuda, CUDA, m) {
  m.impl("sqrtm_psd", TORCH_BOX(&sqrtm_psd));
  m.impl("ift_solve", TORCH_BOX(&ift_solve));
}

}  // namespace fastift
