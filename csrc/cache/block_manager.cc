#include "cache/block_manager.h"

#include <algorithm>

#include "base/check.h"

namespace lmrun::cache {
namespace {

// Finalizer of SplitMix64 (Steele, Lea & Flood 2014).
uint64_t mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

}  // namespace

uint64_t block_hash(uint64_t parent_hash, std::span<const int32_t> tokens) {
  uint64_t hash = mix(parent_hash);
  for (const int32_t token : tokens) hash = mix(hash ^ static_cast<uint32_t>(token));
  return hash;
}

BlockManager::BlockManager(int64_t num_blocks, int64_t block_size) : block_size_(block_size) {
  LMRUN_CHECK(num_blocks >= 1 && block_size >= 1,
              "cache: expected at least one block of one token");
  blocks_.resize(static_cast<size_t>(num_blocks));
  for (BlockId block = 0; block < static_cast<BlockId>(num_blocks); ++block) push_back(block);
}

void BlockManager::push_back(BlockId block) {
  Block& entry = blocks_[index(block)];
  entry.previous = tail_;
  entry.next = kNoBlock;
  (tail_ == kNoBlock ? head_ : blocks_[index(tail_)].next) = block;
  tail_ = block;
  ++num_free_;
}

void BlockManager::unlink(BlockId block) {
  Block& entry = blocks_[index(block)];
  (entry.previous == kNoBlock ? head_ : blocks_[index(entry.previous)].next) = entry.next;
  (entry.next == kNoBlock ? tail_ : blocks_[index(entry.next)].previous) = entry.previous;
  entry.previous = kNoBlock;
  entry.next = kNoBlock;
  --num_free_;
}

void BlockManager::forget(BlockId block) {
  Block& entry = blocks_[index(block)];
  if (!entry.is_registered) return;
  by_hash_.erase(entry.key.hash);
  entry.is_registered = false;
  entry.tokens.clear();
}

std::optional<BlockId> BlockManager::allocate() {
  if (head_ == kNoBlock) return std::nullopt;
  const BlockId block = head_;
  unlink(block);
  forget(block);
  blocks_[index(block)].references = 1;
  num_touched_ = std::max(num_touched_, int64_t{block} + 1);
  return block;
}

void BlockManager::add_reference(BlockId block) {
  Block& entry = blocks_[index(block)];
  if (entry.references == 0) unlink(block);
  ++entry.references;
}

void BlockManager::release(BlockId block) {
  Block& entry = blocks_[index(block)];
  LMRUN_CHECK(entry.references > 0, "cache: block " << block << " released once too often");
  if (--entry.references == 0) push_back(block);
}

std::optional<BlockManager::Match> BlockManager::find(ChainKey parent,
                                                      std::span<const int32_t> tokens) const {
  const auto it = by_hash_.find(block_hash(parent.hash, tokens));
  if (it == by_hash_.end()) return std::nullopt;
  const Block& entry = blocks_[index(it->second)];
  if (entry.parent_serial != parent.serial || !std::ranges::equal(entry.tokens, tokens)) {
    return std::nullopt;
  }
  return Match{it->second, entry.key};
}

ChainKey BlockManager::register_full(BlockId block, ChainKey parent,
                                     std::span<const int32_t> tokens) {
  if (const auto match = find(parent, tokens)) return match->key;
  Block& entry = blocks_[index(block)];
  forget(block);
  entry.key = {block_hash(parent.hash, tokens), next_serial_++};
  // Of two unequal blocks with one hash the latest stays: the other mostly hangs on a parent that
  // was forgotten and computed again, and would never be found.
  if (const auto it = by_hash_.find(entry.key.hash); it != by_hash_.end()) forget(it->second);
  by_hash_.emplace(entry.key.hash, block);
  entry.is_registered = true;
  entry.parent_serial = parent.serial;
  entry.tokens.assign(tokens.begin(), tokens.end());
  return entry.key;
}

void BlockManager::check() const {
  int64_t num_free = 0;
  BlockId previous = kNoBlock;
  for (BlockId block = head_; block != kNoBlock; block = blocks_[index(block)].next) {
    const Block& entry = blocks_[index(block)];
    LMRUN_CHECK(entry.references == 0, "cache: block " << block << " is free and referred to");
    LMRUN_CHECK(entry.previous == previous, "cache: the free list is broken at block " << block);
    LMRUN_CHECK(++num_free <= num_blocks(), "cache: the free list has a cycle");
    previous = block;
  }
  LMRUN_CHECK(previous == tail_, "cache: the free list does not end at its tail");
  LMRUN_CHECK(num_free == num_free_,
              "cache: the free list holds " << num_free << " blocks, not " << num_free_);
  int64_t num_used = 0;
  size_t num_registered = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& entry = blocks_[i];
    num_used += entry.references > 0 ? 1 : 0;
    if (!entry.is_registered) continue;
    ++num_registered;
    const auto it = by_hash_.find(entry.key.hash);
    LMRUN_CHECK(it != by_hash_.end() && index(it->second) == i,
                "cache: block " << i << " is not found by its hash");
    LMRUN_CHECK(static_cast<int64_t>(entry.tokens.size()) == block_size_,
                "cache: block " << i << " is registered but not full");
  }
  LMRUN_CHECK(num_used + num_free == num_blocks(), "cache: " << num_used << " used and " << num_free
                                                             << " free blocks of " << num_blocks());
  LMRUN_CHECK(num_registered == by_hash_.size(), "cache: a hash names no block");
}

}  // namespace lmrun::cache
