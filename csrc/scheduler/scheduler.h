// Which tokens of which sequences run in a step. Integers only (README.md of this folder).
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cache/block_manager.h"

namespace lmrun::scheduler {

struct Limits {
  int64_t max_num_seqs = 1;      // sequences in a step
  int64_t max_batch_tokens = 1;  // the token budget of a step; at least max_num_seqs
  bool prefix_caching = false;
};

// The tokens of a request and where their KV lie. Owned by the scheduler; others read it.
struct Sequence {
  int64_t id = 0;
  std::vector<int32_t> tokens;         // prompt, then completion
  int64_t num_computed = 0;            // leading tokens whose KV are in the cache
  std::vector<cache::BlockId> blocks;  // the block table
  bool uses_prefix_cache = false;
  int64_t most_reused = 0;        // leading tokens that may be taken from there
  int64_t num_cached_tokens = 0;  // of the prompt, found in the cache when first admitted

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_left() const { return num_tokens() - num_computed; }

 private:
  friend class Scheduler;
  int64_t arrival_ = 0;
  bool was_admitted_ = false;
  int64_t num_registered_ = 0;  // leading blocks known to the prefix cache
  cache::ChainKey chain_;       // of those
};

// Tokens [begin, begin + size) of a sequence, computed in one step.
struct Chunk {
  Sequence* sequence = nullptr;
  int64_t begin = 0;
  int64_t size = 0;
};

class Scheduler {
 public:
  // `blocks` outlives this. Throws base::InvalidArgument for limits that are not legal.
  Scheduler(const Limits& limits, cache::BlockManager* blocks);

  // Queues a sequence behind all others. `id` is not in use; `tokens` is not empty and fits the
  // pool. `may_reuse_prefix` false: neither reads nor fills the prefix cache. At most `most_reused`
  // tokens are taken from there; the others are computed, for their logits.
  void add(int64_t id, std::vector<int32_t> tokens, bool may_reuse_prefix,
           int64_t most_reused = std::numeric_limits<int64_t>::max());
  // Forgets a sequence, finished or not, and frees its blocks. False where the id is unknown.
  bool remove(int64_t id);

  // The chunks of the next step, their blocks allocated; empty when there is nothing to run.
  // Decodes come first. `commit` follows before the next call; chunks of removed sequences are left
  // out.
  const std::vector<Chunk>& schedule();
  // The step ran: its KV are in the cache.
  void commit();
  // Adds a sampled token to a sequence that is fully computed.
  void append(Sequence* sequence, int32_t token);

  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  bool has_work() const { return !running_.empty() || !waiting_.empty(); }
  int64_t num_preemptions() const { return num_preemptions_; }
  // Tokens that one sequence can hold when it is alone.
  int64_t pool_tokens() const { return blocks_->num_blocks() * blocks_->block_size(); }

  // Throws base::Error where the state contradicts itself. For tests, between steps.
  void check() const;

 private:
  void schedule_decodes();
  void schedule_prefills();
  void admit_waiting();
  bool try_admit(Sequence* sequence);
  // Makes room for the first `num_tokens` tokens, or for none where blocks run out.
  bool grow(Sequence* sequence, int64_t num_tokens);
  void take(Sequence* sequence, int64_t size);
  void preempt_latest();
  void release_blocks(Sequence* sequence);
  void match_prefix(Sequence* sequence);
  int64_t blocks_for(int64_t num_tokens) const;
  // Blocks the running sequences still need for the tokens they have.
  int64_t num_promised() const;

  Limits limits_;
  cache::BlockManager* blocks_;
  int64_t next_arrival_ = 0;
  int64_t num_preemptions_ = 0;
  int64_t budget_ = 0;
  std::vector<Chunk> chunks_;
  std::vector<Sequence*> running_;  // both in order of arrival, all running before all waiting
  std::deque<Sequence*> waiting_;
  std::unordered_map<int64_t, std::unique_ptr<Sequence>> sequences_;
};

}  // namespace lmrun::scheduler
