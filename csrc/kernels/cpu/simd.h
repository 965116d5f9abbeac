// Intrinsics and what goes with them, for the files of any instruction set.
#pragma once

// GCC 12 takes the deliberately undefined registers of its own header for a mistake (its bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>

// Loops over arrays of registers must unroll, or the arrays live in memory.
#define LMRUN_UNROLL _Pragma("GCC unroll 16")
#define LMRUN_INLINE [[gnu::always_inline]] static inline
