// Accounting of KV blocks, in integers (README.md of this folder).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace lmrun::cache {

using BlockId = int32_t;

// Names the content of a chain of full blocks from position 0. The default one is the empty chain.
// `serial` is unique to a registered block, so that equal hashes of unequal parents cannot meet.
struct ChainKey {
  uint64_t hash = 0;
  uint64_t serial = 0;
};

class BlockManager {
 public:
  // `num_blocks` and `block_size` (tokens) at least 1.
  BlockManager(int64_t num_blocks, int64_t block_size);

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t block_size() const { return block_size_; }
  int64_t num_free() const { return num_free_; }
  int64_t num_used() const { return num_blocks() - num_free_; }
  // Blocks that were ever allocated: the first ones, as the free list begins in order.
  int64_t num_touched() const { return num_touched_; }

  // The block at the front of the free list, with one reference, its old content forgotten; nothing
  // when none is free.
  std::optional<BlockId> allocate();
  void add_reference(BlockId block);
  // A block without references goes to the back of the free list and keeps its hash.
  void release(BlockId block);

  // The block that holds `tokens` (exactly block_size) after `parent`, and its key; nothing when
  // there is none. Takes no reference: a caller adds one before it allocates.
  struct Match {
    BlockId block;
    ChainKey key;
  };
  std::optional<Match> find(ChainKey parent, std::span<const int32_t> tokens) const;

  // Says that `block` now holds `tokens` (exactly block_size) after `parent`. Where an equal block
  // is registered, that one stays the one found, and its key is returned.
  ChainKey register_full(BlockId block, ChainKey parent, std::span<const int32_t> tokens);

  int64_t reference_count(BlockId block) const { return blocks_[index(block)].references; }
  // Throws base::Error where the accounting contradicts itself. For tests: walks every block.
  void check() const;

 private:
  static constexpr BlockId kNoBlock = -1;  // ends the free list, never leaves this class

  struct Block {
    int64_t references = 0;
    BlockId previous = kNoBlock;  // neighbours in the free list
    BlockId next = kNoBlock;
    bool is_registered = false;
    ChainKey key;
    uint64_t parent_serial = 0;
    std::vector<int32_t> tokens;
  };

  static size_t index(BlockId block) { return static_cast<size_t>(block); }
  void push_back(BlockId block);
  void unlink(BlockId block);
  void forget(BlockId block);

  int64_t block_size_;
  int64_t num_free_ = 0;
  int64_t num_touched_ = 0;
  BlockId head_ = kNoBlock;
  BlockId tail_ = kNoBlock;
  uint64_t next_serial_ = 1;
  std::vector<Block> blocks_;
  std::unordered_map<uint64_t, BlockId> by_hash_;
};

// H(parent hash, token ids).
uint64_t block_hash(uint64_t parent_hash, std::span<const int32_t> tokens);

}  // namespace lmrun::cache
