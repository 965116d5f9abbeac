// Which pages of a mapping are in memory.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace lmrun::base {

// Bytes of the pages of `memory` that this process has in memory, as the kernel counts them towards
// its resident size; nothing where the system does not say (/proc/self/pagemap). Reads 8 bytes a
// page: a millisecond for half a gigabyte. `memory` stays mapped meanwhile.
std::optional<size_t> resident_bytes(std::span<const std::byte> memory);

// Bytes of `memory` that are in huge pages; nothing where the system does not say
// (/proc/self/smaps). Of a mapping that goes beyond `memory`, at most the bytes inside. Some
// milliseconds.
std::optional<size_t> huge_page_bytes(std::span<const std::byte> memory);

// Whether all of `memory` is in huge pages now; false where the system does not say (Linux 6.7).
// Microseconds.
bool is_in_huge_pages(std::span<const std::byte> memory);

// Asks the kernel for all pages of a mapping now, for reading or for writing, so that no later
// access waits for one. Advice: an old kernel, or one short of memory, does less.
void populate_for_reading(std::span<const std::byte> memory);
void populate_for_writing(std::span<std::byte> memory);

}  // namespace lmrun::base
