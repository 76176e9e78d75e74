// One copy of the inner loops for each instruction set, chosen when the library is loaded.
#include "kernels.h"

#include <cstdlib>
#include <cstring>

namespace fastift {

namespace baseline {
#if defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif
#include "kernels.inc"
}  // namespace baseline

// clang has no such pragma: there the baseline serves
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FASTIFT_X86
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace avx2 {
constexpr int LANES = 8, REGISTERS = 16;
#include "kernels.inc"
}  // namespace avx2
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
namespace avx512 {
constexpr int LANES = 16, REGISTERS = 32;
#include "kernels.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

static const Kernels& choose() {
#ifdef FASTIFT_X86
  const char* most = std::getenv("FASTIFT_CPU");  // for tests: every copy must be right, not only the fastest
  const auto allowed = [most](const char* name) { return most == nullptr || std::strcmp(most, name) == 0; };
  if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return avx512::table;
  if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::table;
#endif
  return baseline::table;
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace fastift
