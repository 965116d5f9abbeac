// The AMX tile instructions. Included by *_amx_avx512.cc only; everything is always inlined.
//
// Written as assembly, not as the compiler's intrinsics: GCC 12 tells its optimizer of 8 of the
// 64 bytes that ldtilecfg reads and of none that tileloadd reads, and drops or moves the stores
// before them. Here each instruction that reads or writes memory says so. No compiler flag is
// needed, an assembler that knows AMX is (binutils 2.35).
#pragma once

#include <cstdint>

namespace lmrun::kernels::amx {

inline constexpr int kTiles = 8;
inline constexpr int64_t kTileRows = 16;   // of a tile, at most
inline constexpr int64_t kRowBytes = 64;   // of a row of a tile, at most
inline constexpr int64_t kTileWords = 16;  // of 32 bits, of a row

// What ldtilecfg reads. Palette 1: eight tiles of at most 16 rows of at most 64 bytes; a tile that
// is not used has 0 rows of 0 bytes.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[kTiles];
  uint16_t no_row_bytes[kTiles];
  uint8_t rows[kTiles];
  uint8_t no_rows[kTiles];
};
static_assert(sizeof(TileConfig) == 64);

#define LMRUN_TILE [[gnu::always_inline]] static inline

// Sets the shapes of this thread's tiles, and all of them to 0.
LMRUN_TILE void configure_tiles(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// Gives the tiles back: what the operating system saves of this thread is small again.
LMRUN_TILE void release_tiles() { __asm__ volatile("tilerelease" : : : "memory"); }

template <int kTile>
LMRUN_TILE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

// Row i of the tile lies at `from + i * stride`.
template <int kTile>
LMRUN_TILE void load_tile(const void* from, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                   :
                   : "r"(from), "r"(stride), "i"(kTile)
                   : "memory");
}

template <int kTile>
LMRUN_TILE void store_tile(void* to, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                   :
                   : "r"(to), "r"(stride), "i"(kTile)
                   : "memory");
}

// sums[m, n] += sum over k and j < 4 of a[m, 4 k + j] * b[k, 4 n + j], in int32 that wraps:
// a holds signed bytes, b unsigned ones. a: m rows of 4 k bytes; b: k rows of 4 n bytes.
template <int kSums, int kA, int kB>
LMRUN_TILE void multiply_tiles() {
  static_assert(kSums != kA && kSums != kB && kA != kB);
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kA), "i"(kB));
}

}  // namespace lmrun::kernels::amx
