#include "kernels/emulated_tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace lmrun::kernels::testing {
namespace {

// Written after the description of each instruction in Intel's Software Developer's Manual, volume
// 2, with the faults that it names.
struct Tile {
  int64_t rows;
  int64_t bytes;  // of a row
  uint8_t data[16][64];
};

struct Unit {
  bool is_configured;
  Tile tiles[8];
};

thread_local Unit unit;
std::atomic<int64_t> instructions{0};

// An instruction as encoded: VEX of three bytes, opcode, ModRM, perhaps SIB and displacement.
struct Instruction {
  int prefix;  // pp: 0 none, 1 66, 2 F3, 3 F2
  int opcode;
  int mod;
  int reg;
  int rm;
  int vvvv;
  int64_t address;  // of the memory operand, without the index
  int64_t index;    // its value times its scale
  bool has_sib;
  int length;
};

[[noreturn]] void fail(const char* what) {
  const char start[] = "emulated tiles: ";
  (void)!write(2, start, sizeof(start) - 1);
  (void)!write(2, what, std::strlen(what));
  (void)!write(2, "\n", 1);
  std::abort();
}

void must(bool holds, const char* what) {
  if (!holds) fail(what);
}

int64_t general_register(const ucontext_t& context, int number) {
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                     REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                     REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[kOrder[number]];
}

// False where the bytes are none of the instructions looked for.
bool decode(const ucontext_t& context, Instruction* found) {
  const int64_t start = context.uc_mcontext.gregs[REG_RIP];
  const auto* code = reinterpret_cast<const uint8_t*>(start);
  // Map 0F38, W0, 128 bits.
  if (code[0] != 0xC4 || (code[1] & 31) != 2 || (code[2] & 0x84) != 0) return false;
  const int r = (code[1] & 0x80) != 0 ? 0 : 8;
  const int x = (code[1] & 0x40) != 0 ? 0 : 8;
  const int b = (code[1] & 0x20) != 0 ? 0 : 8;
  found->prefix = code[2] & 3;
  found->vvvv = (~code[2] >> 3) & 15;
  found->opcode = code[3];
  if (found->opcode != 0x49 && found->opcode != 0x4B && found->opcode != 0x5E) return false;
  const int modrm = code[4];
  found->mod = modrm >> 6;
  found->reg = ((modrm >> 3) & 7) + r;
  found->rm = (modrm & 7) + b;
  found->length = 5;
  found->address = 0;
  found->index = 0;
  found->has_sib = found->mod != 3 && (modrm & 7) == 4;
  if (found->mod == 3) return true;
  bool has_base = true;
  int base = found->rm;
  if (found->has_sib) {
    const int sib = code[5];
    found->length = 6;
    const int index = ((sib >> 3) & 7) + x;
    if (index != 4) found->index = general_register(context, index) << (sib >> 6);
    base = (sib & 7) + b;
    has_base = (sib & 7) != 5 || found->mod != 0;
  }
  const bool is_relative = found->mod == 0 && !found->has_sib && (modrm & 7) == 5;
  if (found->mod == 1) {
    found->address = static_cast<int8_t>(code[found->length]);
    found->length += 1;
  } else if (found->mod == 2 || is_relative || !has_base) {
    int32_t displacement = 0;
    std::memcpy(&displacement, code + found->length, sizeof(displacement));
    found->address = displacement;
    found->length += 4;
  }
  if (is_relative) {
    found->address += start + found->length;
  } else if (has_base) {
    found->address += general_register(context, base);
  }
  return true;
}

void configure(const uint8_t* config) {
  must(config[0] == 1 && config[1] == 0, "ldtilecfg: palette 1 from row 0 was expected");
  for (int i = 2; i < 16; ++i) must(config[i] == 0, "ldtilecfg: reserved bytes are not 0");
  for (int i = 32; i < 48; ++i) must(config[i] == 0, "ldtilecfg: reserved bytes are not 0");
  for (int i = 56; i < 64; ++i) must(config[i] == 0, "ldtilecfg: reserved bytes are not 0");
  std::memset(&unit, 0, sizeof(unit));
  for (int i = 0; i < 8; ++i) {
    Tile& tile = unit.tiles[i];
    tile.bytes = config[16 + 2 * i] + 256 * config[17 + 2 * i];
    tile.rows = config[48 + i];
    must(tile.bytes <= 64 && tile.rows <= 16, "ldtilecfg: a tile is larger than the palette's");
    must((tile.bytes == 0) == (tile.rows == 0), "ldtilecfg: rows without bytes, or bytes without");
  }
  unit.is_configured = true;
}

Tile& tile_of(int number) {
  must(unit.is_configured, "a tile instruction before ldtilecfg");
  must(number < 8, "no such tile");
  Tile& tile = unit.tiles[number];
  must(tile.rows != 0, "a tile that was not configured");
  return tile;
}

void load(const Instruction& in) {
  must(in.has_sib && in.vvvv == 0, "tileloadd: encoding");
  Tile& tile = tile_of(in.reg);
  std::memset(tile.data, 0, sizeof(tile.data));
  for (int64_t row = 0; row < tile.rows; ++row) {
    const auto* from = reinterpret_cast<const uint8_t*>(in.address + row * in.index);
    std::memcpy(tile.data[row], from, static_cast<size_t>(tile.bytes));
  }
}

void store(const Instruction& in) {
  must(in.has_sib && in.vvvv == 0, "tilestored: encoding");
  const Tile& tile = tile_of(in.reg);
  for (int64_t row = 0; row < tile.rows; ++row) {
    auto* to = reinterpret_cast<uint8_t*>(in.address + row * in.index);
    std::memcpy(to, tile.data[row], static_cast<size_t>(tile.bytes));
  }
}

// tdpbsud sums, a, b: sums is ModRM.reg, a (signed) ModRM.rm, b (unsigned) VEX.vvvv.
void multiply(const Instruction& in) {
  must(in.reg != in.rm && in.reg != in.vvvv && in.rm != in.vvvv, "tdpbsud: a tile twice");
  Tile& sums = tile_of(in.reg);
  const Tile& a = tile_of(in.rm);
  const Tile& b = tile_of(in.vvvv);
  must(sums.rows == a.rows && sums.bytes == b.bytes, "tdpbsud: sums of another shape");
  must(a.bytes % 4 == 0 && b.bytes % 4 == 0, "tdpbsud: bytes of a row are no multiple of 4");
  must(a.bytes / 4 == b.rows, "tdpbsud: shapes do not meet");
  for (int64_t m = 0; m < sums.rows; ++m) {
    uint32_t row[16] = {};
    std::memcpy(row, sums.data[m], sizeof(row));
    for (int64_t k = 0; k < a.bytes / 4; ++k) {
      const uint8_t* left = a.data[m] + 4 * k;
      for (int64_t n = 0; n < b.bytes / 4; ++n) {
        const uint8_t* right = b.data[k] + 4 * n;
        int32_t dot = 0;
        for (int j = 0; j < 4; ++j) dot += static_cast<int8_t>(left[j]) * int32_t{right[j]};
        row[n] += static_cast<uint32_t>(dot);
      }
    }
    std::memset(sums.data[m], 0, sizeof(sums.data[m]));
    std::memcpy(sums.data[m], row, static_cast<size_t>(sums.bytes));
  }
}

bool execute(const Instruction& in) {
  if (in.opcode == 0x49 && in.mod != 3 && in.prefix == 0 && in.reg == 0) {
    configure(reinterpret_cast<const uint8_t*>(in.address + in.index));
  } else if (in.opcode == 0x49 && in.mod == 3 && in.prefix == 0 && in.reg == 0 && in.rm == 0) {
    std::memset(&unit, 0, sizeof(unit));
  } else if (in.opcode == 0x49 && in.mod == 3 && in.prefix == 3 && in.rm == 0) {
    Tile& tile = tile_of(in.reg);
    std::memset(tile.data, 0, sizeof(tile.data));
  } else if (in.opcode == 0x4B && in.mod != 3 && in.prefix == 3) {
    load(in);
  } else if (in.opcode == 0x4B && in.mod != 3 && in.prefix == 2) {
    store(in);
  } else if (in.opcode == 0x5E && in.mod == 3 && in.prefix == 2) {
    multiply(in);
  } else {
    return false;
  }
  return true;
}

void handle(int /*signal*/, siginfo_t* /*info*/, void* raw) {
  auto* context = static_cast<ucontext_t*>(raw);
  Instruction in{};
  if (!decode(*context, &in) || !execute(in)) {
    std::signal(SIGILL, SIG_DFL);  // it comes again and ends the program
    return;
  }
  instructions.fetch_add(1, std::memory_order_relaxed);
  context->uc_mcontext.gregs[REG_RIP] += in.length;
}

}  // namespace

EmulatedTiles::EmulatedTiles() {
  struct sigaction action{};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, &before_);
}

EmulatedTiles::~EmulatedTiles() { sigaction(SIGILL, &before_, nullptr); }

int64_t EmulatedTiles::count() { return instructions.load(); }

}  // namespace lmrun::kernels::testing

#endif
