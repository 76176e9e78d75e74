// What the kernels use of CUDA, in a handful of functions: so few that the tests can supply them on a CPU (cuda_on_cpu.h) and run
// the very same kernels there.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#include <cooperative_groups.h>
#include <cuda_runtime.h>

namespace fastift {

// Bytes that the launch asked for; aligned for Four<double>.
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(32) unsigned char bytes[];
  return bytes;
}

// For cooperative launches: all blocks meet, and what they wrote before is seen by all after.
__device__ inline void grid_barrier() { cooperative_groups::this_grid().sync(); }

inline const char* in_words(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

// Runs kernel(task) on `blocks` blocks, or, if they are to meet at grid barriers, on as many of them as the card holds at a time.
template <typename Task>
const char* launch(void (*kernel)(Task), Task task, int64_t blocks, int threads, size_t shared, bool meet, void* stream) {
  constexpr size_t WITHOUT_ASKING = 48 * 1024;
  const auto function = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaSuccess;
  if (shared > WITHOUT_ASKING)
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  void* arguments[] = {&task};
  const auto queue = static_cast<cudaStream_t>(stream);
  if (error == cudaSuccess && meet) {
    int device = 0, processors = 0, held = 0;
    error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&held, function, threads, shared);
    if (blocks > int64_t{held} * processors) blocks = int64_t{held} * processors;
    if (error == cudaSuccess && blocks == 0) return "the kernel does not fit this GPU";
    if (error == cudaSuccess)
      error = cudaLaunchCooperativeKernel(function, dim3(static_cast<unsigned>(blocks)), dim3(threads), arguments, shared, queue);
  } else if (error == cudaSuccess) {
    error = cudaLaunchKernel(function, dim3(static_cast<unsigned>(blocks)), dim3(threads), arguments, shared, queue);
  }
  if (error != cudaSuccess) cudaGetLastError();  // reported here, so that no later call trips over it
  return in_words(error);
}

}  // namespace fastift
#else
#include "cuda_on_cpu.h"
#endif

namespace fastift {

// Read and written at once, where the address allows.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T v[4];
};

__host__ __device__ inline int64_t tiles_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

}  // namespace fastift
