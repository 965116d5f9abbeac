#include "scheduler/scheduler.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/concat.h"

namespace lmrun::scheduler {

Scheduler::Scheduler(const Limits& limits, cache::BlockManager* blocks)
    : limits_(limits), blocks_(blocks) {
  if (limits.max_num_seqs < 1) {
    throw base::InvalidArgument(
        base::concat("max_num_seqs=", limits.max_num_seqs, ": expected at least 1."));
  }
  if (limits.max_batch_tokens < limits.max_num_seqs) {
    throw base::InvalidArgument(base::concat(
        "max_batch_tokens=", limits.max_batch_tokens, ": expected at least max_num_seqs (",
        limits.max_num_seqs, "): a step takes one token of every running sequence."));
  }
}

void Scheduler::add(int64_t id, std::vector<int32_t> tokens, bool may_reuse_prefix,
                    int64_t most_reused) {
  LMRUN_CHECK(!tokens.empty(), "scheduler: sequence " << id << " has no tokens");
  LMRUN_CHECK(static_cast<int64_t>(tokens.size()) <= pool_tokens(),
              "scheduler: sequence " << id << " does not fit the pool");
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->tokens = std::move(tokens);
  sequence->uses_prefix_cache = may_reuse_prefix && limits_.prefix_caching;
  sequence->most_reused = most_reused;
  sequence->arrival_ = next_arrival_++;
  waiting_.push_back(sequence.get());
  const bool is_new = sequences_.emplace(id, std::move(sequence)).second;
  if (!is_new) waiting_.pop_back();
  LMRUN_CHECK(is_new, "scheduler: id " << id << " is in use");
}

bool Scheduler::remove(int64_t id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return false;
  Sequence* sequence = it->second.get();
  release_blocks(sequence);
  std::erase(running_, sequence);
  std::erase(waiting_, sequence);
  std::erase_if(chunks_, [sequence](const Chunk& chunk) { return chunk.sequence == sequence; });
  sequences_.erase(it);
  return true;
}

const std::vector<Chunk>& Scheduler::schedule() {
  for (;;) {
    chunks_.clear();
    budget_ = limits_.max_batch_tokens;
    schedule_decodes();
    schedule_prefills();
    admit_waiting();
    if (!chunks_.empty() || !has_work()) return chunks_;
    // Prefills stand in each other's way; alone, the earliest fits.
    LMRUN_CHECK(running_.size() > 1, "scheduler: no sequence can advance");
    preempt_latest();
  }
}

void Scheduler::schedule_decodes() {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->num_left() != 1) continue;
    bool has_room = grow(sequence, sequence->num_tokens());
    while (!has_room && running_.back() != sequence) {
      preempt_latest();
      has_room = grow(sequence, sequence->num_tokens());
    }
    if (has_room) {
      take(sequence, 1);
    } else {
      preempt_latest();
    }
  }
}

void Scheduler::schedule_prefills() {
  for (Sequence* sequence : running_) {
    if (budget_ == 0) return;
    if (sequence->num_left() <= 1) continue;
    const int64_t reach = (static_cast<int64_t>(sequence->blocks.size()) + blocks_->num_free()) *
                          blocks_->block_size();
    const int64_t size = std::min({sequence->num_left(), budget_, reach - sequence->num_computed});
    if (size <= 0) continue;
    grow(sequence, sequence->num_computed + size);
    take(sequence, size);
  }
}

void Scheduler::admit_waiting() {
  while (!waiting_.empty() && budget_ > 0 && num_running() < limits_.max_num_seqs) {
    Sequence* sequence = waiting_.front();
    if (!try_admit(sequence)) return;
    waiting_.pop_front();
    running_.push_back(sequence);
    const int64_t size = std::min(sequence->num_left(), budget_);
    grow(sequence, sequence->num_computed + size);
    take(sequence, size);
  }
}

bool Scheduler::try_admit(Sequence* sequence) {
  match_prefix(sequence);
  const int64_t needed =
      blocks_for(sequence->num_tokens()) - static_cast<int64_t>(sequence->blocks.size());
  if (blocks_->num_free() - num_promised() < needed) {
    release_blocks(sequence);
    return false;
  }
  if (!sequence->was_admitted_) sequence->num_cached_tokens = sequence->num_computed;
  sequence->was_admitted_ = true;
  return true;
}

void Scheduler::match_prefix(Sequence* sequence) {
  if (!sequence->uses_prefix_cache) return;
  const int64_t size = blocks_->block_size();
  const std::span<const int32_t> tokens = sequence->tokens;
  // At least one token is computed, for its logits.
  const int64_t most = std::min(sequence->num_tokens() - 1, sequence->most_reused) / size;
  for (int64_t i = 0; i < most; ++i) {
    const auto match = blocks_->find(
        sequence->chain_, tokens.subspan(static_cast<size_t>(i * size), static_cast<size_t>(size)));
    if (!match) break;
    blocks_->add_reference(match->block);
    sequence->blocks.push_back(match->block);
    sequence->chain_ = match->key;
    sequence->num_registered_ = i + 1;
    sequence->num_computed = (i + 1) * size;
  }
}

bool Scheduler::grow(Sequence* sequence, int64_t num_tokens) {
  const int64_t missing = blocks_for(num_tokens) - static_cast<int64_t>(sequence->blocks.size());
  if (missing > blocks_->num_free()) return false;
  for (int64_t i = 0; i < missing; ++i) sequence->blocks.push_back(*blocks_->allocate());
  return true;
}

void Scheduler::take(Sequence* sequence, int64_t size) {
  chunks_.push_back({sequence, sequence->num_computed, size});
  budget_ -= size;
}

void Scheduler::preempt_latest() {
  Sequence* sequence = running_.back();
  running_.pop_back();
  release_blocks(sequence);
  waiting_.push_front(sequence);
  ++num_preemptions_;
}

void Scheduler::release_blocks(Sequence* sequence) {
  // The end of a sequence is the first to be handed out again: its beginning is the likelier
  // prefix.
  for (size_t i = sequence->blocks.size(); i > 0; --i) blocks_->release(sequence->blocks[i - 1]);
  sequence->blocks.clear();
  sequence->num_computed = 0;
  sequence->num_registered_ = 0;
  sequence->chain_ = {};
}

void Scheduler::commit() {
  const int64_t size = blocks_->block_size();
  for (const Chunk& chunk : chunks_) {
    Sequence* sequence = chunk.sequence;
    sequence->num_computed += chunk.size;
    if (!sequence->uses_prefix_cache) continue;
    const std::span<const int32_t> tokens = sequence->tokens;
    while ((sequence->num_registered_ + 1) * size <= sequence->num_computed) {
      const int64_t i = sequence->num_registered_++;
      sequence->chain_ = blocks_->register_full(
          sequence->blocks[static_cast<size_t>(i)], sequence->chain_,
          tokens.subspan(static_cast<size_t>(i * size), static_cast<size_t>(size)));
    }
  }
}

void Scheduler::append(Sequence* sequence, int32_t token) {
  LMRUN_CHECK(sequence->num_left() == 0,
              "scheduler: sequence " << sequence->id << " is not fully computed");
  LMRUN_CHECK(sequence->num_tokens() < pool_tokens(),
              "scheduler: sequence " << sequence->id << " outgrows the pool");
  sequence->tokens.push_back(token);
}

int64_t Scheduler::blocks_for(int64_t num_tokens) const {
  return (num_tokens + blocks_->block_size() - 1) / blocks_->block_size();
}

int64_t Scheduler::num_promised() const {
  int64_t promised = 0;
  for (const Sequence* sequence : running_) {
    promised += blocks_for(sequence->num_tokens()) - static_cast<int64_t>(sequence->blocks.size());
  }
  return promised;
}

void Scheduler::check() const {
  blocks_->check();
  std::vector<int64_t> references(static_cast<size_t>(blocks_->num_blocks()), 0);
  int64_t last_arrival = -1;
  const auto check_order = [&last_arrival](const Sequence* sequence) {
    LMRUN_CHECK(sequence->arrival_ > last_arrival,
                "scheduler: sequence " << sequence->id << " is out of order");
    last_arrival = sequence->arrival_;
  };
  for (const Sequence* sequence : running_) {
    check_order(sequence);
    const auto num_blocks = static_cast<int64_t>(sequence->blocks.size());
    LMRUN_CHECK(num_blocks >= blocks_for(sequence->num_computed) &&
                    num_blocks <= blocks_for(sequence->num_tokens()),
                "scheduler: sequence " << sequence->id << " has " << num_blocks << " blocks for "
                                       << sequence->num_computed << " computed of "
                                       << sequence->num_tokens() << " tokens");
    for (const cache::BlockId block : sequence->blocks) ++references[static_cast<size_t>(block)];
  }
  for (const Sequence* sequence : waiting_) {
    check_order(sequence);
    LMRUN_CHECK(sequence->blocks.empty() && sequence->num_computed == 0,
                "scheduler: waiting sequence " << sequence->id << " holds blocks");
  }
  for (size_t i = 0; i < references.size(); ++i) {
    const int64_t counted = blocks_->reference_count(static_cast<cache::BlockId>(i));
    LMRUN_CHECK(counted == references[i], "scheduler: block " << i << " has " << counted
                                                              << " references and stands in "
                                                              << references[i] << " tables");
  }
  LMRUN_CHECK(num_running() <= limits_.max_num_seqs, "scheduler: too many sequences run");
  LMRUN_CHECK(running_.size() + waiting_.size() == sequences_.size(),
              "scheduler: a sequence neither runs nor waits");
}

}  // namespace lmrun::scheduler
