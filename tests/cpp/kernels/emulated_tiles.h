// The AMX tile instructions in plain C++, for machines without them: while one of these lives, an
// instruction that the CPU does not know is looked at, and run here if it is one of those in
// kernels/cpu/tiles_amx.h. So the tests run the very machine code that a machine with AMX runs.
#pragma once

#include <csignal>
#include <cstdint>

namespace lmrun::kernels::testing {

class EmulatedTiles {
 public:
  EmulatedTiles();
  ~EmulatedTiles();
  EmulatedTiles(const EmulatedTiles&) = delete;
  EmulatedTiles& operator=(const EmulatedTiles&) = delete;

  // Tile instructions run so far, of all threads.
  static int64_t count();

 private:
  struct sigaction before_{};
};

}  // namespace lmrun::kernels::testing
