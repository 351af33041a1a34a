// How far log Gamma, digamma and trigamma rise from x to x + s, summed over many terms: what a likelihood of beta-
// binomial counts is made of. One implementation an instruction set, all with the same bits.
#pragma once

#include <cstdint>

namespace banditcore {

// Term i goes up by count[i] from x = scale share[i]. x in 1e-100 .. 1e100, counts in 0 .. 1e300.
struct RiseTerms {
  const double *share, *count, *weight;
  std::int64_t size;
};

// The derivatives of the sum of logs by the scale: logs itself, psis the first, trigammas the second.
struct RiseSums {
  double logs;       // sum of weight (log Gamma(x + s) - log Gamma(x))
  double psis;       // sum of weight share (psi(x + s) - psi(x))
  double trigammas;  // sum of weight share^2 (psi'(x + s) - psi'(x))
};

struct RiseKernel {
  const char* name;
  double (*logs)(const RiseTerms& terms, double scale);
  RiseSums (*all)(const RiseTerms& terms, double scale);
};

// Those that this machine can run, best first; after the last, one whose name is null.
const RiseKernel& rise_kernel(int place) noexcept;

extern const RiseKernel kRisesSerial;
#if defined(__x86_64__)
extern const RiseKernel kRisesAvx2, kRisesAvx512;
#endif

}  // namespace banditcore
