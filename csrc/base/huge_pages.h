// The bytes of a mapped file, moved into pages of 2 MiB while they are read.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

#include "base/mapped_file.h"

namespace lmrun::base {

inline constexpr size_t kHugePage = size_t{2} << 20;

// Whether memory that asks for huge pages gets them: tries two. Half a millisecond.
bool gives_huge_pages();

// Puts private huge pages under the addresses of a mapped file, chunk by chunk, on a thread of its
// own: a chunk is read into fresh memory, which then takes the place of the file's pages in one
// system call. Addresses and bytes stay as they are, so others may read meanwhile; a reader that
// comes in between waits for the call. The process never holds more than one chunk twice. What the
// file system keeps in huge pages already stays mapped, as does a last part of less than a huge
// page, and the rest of the file where memory ends, the file is cut short, or the system has no
// such call.
class HugePageMove {
 public:
  // `file` stays where it is and lives longer than this.
  explicit HugePageMove(const MappedFile& file);
  // Stops after the chunk at hand.
  ~HugePageMove();
  HugePageMove(const HugePageMove&) = delete;
  HugePageMove& operator=(const HugePageMove&) = delete;

  // Returns when all of the file is moved, or no more of it will be. One caller.
  void wait();
  // Bytes that were copied so far.
  size_t moved_bytes() const { return moved_bytes_.load(std::memory_order_relaxed); }

 private:
  void move_all();

  const MappedFile& file_;
  std::atomic<bool> is_stopping_{false};
  std::atomic<size_t> moved_bytes_{0};
  std::thread thread_;
};

}  // namespace lmrun::base
