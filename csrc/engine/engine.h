// The engine: requests in, steps, outputs (README.md of this folder).
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

#include "base/check.h"  // the errors thrown here
#include "base/huge_pages.h"
#include "base/thread_pool.h"
#include "cache/block_manager.h"
#include "cache/kv_pool.h"
#include "engine/prepare.h"
#include "engine/request.h"
#include "engine/settings.h"
#include "model/decoder.h"
#include "sampling/sampler.h"
#include "scheduler/scheduler.h"
#include "workspace/workspace.h"

namespace lmrun::engine {

// Steps of one kind, summed up.
struct StepCounts {
  int64_t steps = 0;
  int64_t seqs = 0;     // sequences in them
  int64_t tokens = 0;   // computed
  int64_t context = 0;  // in the cache before, of each sequence
  double seconds = 0;   // inside `step`
};

// Counters run from the start; the others are of the last step.
struct Stats {
  int64_t num_blocks = 0;
  int64_t used_blocks = 0;
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t num_steps = 0;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t preemptions = 0;
  int64_t last_step_seqs = 0;
  std::vector<int64_t> seqs_per_step;  // index i counts the steps of i + 1 sequences
  int64_t touched_blocks = 0;          // ever used: these have memory
  int64_t peak_used_blocks = 0;
  double step_seconds = 0;  // of all steps
  StepCounts decode_one;    // one sequence that decodes
  StepCounts decode;        // steps that only decode, those of one sequence too
  StepCounts prefill;       // only prompt tokens of completions, at least half the token budget
};

// Memory of the engine that the system has made resident; nothing where it does not say.
struct Residency {
  std::optional<size_t> weights_bytes;
  std::optional<size_t> weights_huge_bytes;  // of these, in huge pages
  std::optional<size_t> kv_bytes;
};

class Engine {
 public:
  // Maps the workspace and takes the memory of activations; that of KV blocks is taken when they
  // are first used. Weights move into huge pages while the engine already works
  // (`Settings::weight_memory`). Throws base::InvalidArgument for settings that are not legal,
  // base::Error for a workspace that cannot be read or huge pages that are not to be had.
  explicit Engine(const Settings& settings);

  // `submit`, `score`, `abort`, `has_work`, `stats` and `residency` may be called from any thread,
  // also during a step. Throw base::InvalidArgument for what cannot run.
  void submit(int64_t id, std::vector<int32_t> prompt, const sampling::Params& sampling,
              std::optional<int64_t> max_tokens);
  void score(int64_t id, std::vector<int32_t> tokens, const ScoreDetail& detail = {});
  // Unknown ids are ignored. The next step reports the end.
  void abort(int64_t id);
  bool has_work() const;
  Stats stats() const;
  // Walks the pages of weights and KV blocks: a millisecond for half a gigabyte. From any thread.
  Residency residency() const;

  // One step; what it did to the requests it ran or ended. At once, empty, when there is no work.
  // A request whose logits are not finite ends with FinishReason::kError, no other does.
  // After an error the engine is of no more use and says the same again.
  std::vector<Output> step();

  // Logits [tokens, V] of a sequence on its own. Throws base::Error while other requests run.
  std::vector<float> logits(std::vector<int32_t> tokens);

  // The settings in force, `isa` and `weight_memory` resolved.
  const Settings& effective_settings() const { return settings_; }
  // Why the weights stay mapped where `weight_memory` is auto; empty where they do not.
  const std::string& why_mapped() const { return why_mapped_; }
  // Returns when no more weights will move into huge pages. One caller; for measurements.
  void wait_for_weights();
  int64_t vocab_size() const { return workspace_.config().vocab_size; }

  // Throws base::Error where the accounting contradicts itself. For tests, between steps.
  void check() const { scheduler_.check(); }

 private:
  struct Start {
    int64_t id;
    std::vector<int32_t> tokens;
    Request request;
  };
  struct Abort {
    int64_t id;
  };
  using Command = std::variant<Start, Abort>;
  // What a step computes, taken down before its sequences may end.
  struct StepKind {
    int64_t seqs = 0;
    int64_t tokens = 0;
    int64_t context = 0;
    int64_t decodes = 0;  // sequences
    int64_t scores = 0;   // sequences whose rows are all looked at
  };

  // What a thread needs to use a row.
  struct Scratch {
    sampling::Sampler sampler;
    sampling::BestFinder best;
  };

  void place_weights();
  // Tokens one sequence may have.
  int64_t token_limit() const;
  void check_tokens(const char* what, const std::vector<int32_t>& tokens) const;
  void enqueue(Start start);
  void take_commands(std::vector<Output>* outputs);
  void run_step(std::vector<Output>* outputs);
  void prepare(const std::vector<scheduler::Chunk>& chunks);
  void read_logits(std::vector<Output>* outputs);
  void use_row(const WantedRow& wanted, float* logits, Scratch* scratch, sampling::Choice* choice);
  void score_row(const WantedRow& wanted, const float* logits, Request* request, Scratch* scratch,
                 sampling::Choice* choice);
  void finish_row(const WantedRow& wanted, const sampling::Choice& choice,
                  std::vector<Output>* outputs);
  void end_failed(std::vector<Output>* outputs);
  void count_step(const std::vector<scheduler::Chunk>& chunks);
  StepKind kind_of(const std::vector<scheduler::Chunk>& chunks) const;
  void count_seconds(const StepKind& kind, double seconds);
  void publish(const std::vector<Output>& outputs);

  Settings settings_;
  workspace::Workspace workspace_;
  kernels::Isa isa_;
  const kernels::OpTable& ops_;
  base::ThreadPool pool_;
  cache::BlockManager blocks_;
  cache::KvPool kv_;
  scheduler::Scheduler scheduler_;
  int64_t max_logit_rows_;
  model::Decoder decoder_;
  std::vector<Scratch> scratch_;  // one a thread
  std::unordered_map<int64_t, Request> requests_;
  StepTensors tensors_;
  std::vector<sampling::Choice> choices_;
  std::vector<int64_t> failed_;  // ids that this step ends with an error
  Stats counters_;
  std::optional<std::string> failure_;
  std::string why_mapped_;
  std::optional<base::HugePageMove> move_;

  std::mutex step_mutex_;  // held by a step; guards all of the above that a step changes

  mutable std::mutex inbox_mutex_;  // guards the rest; never held while a step computes
  std::vector<Command> inbox_;
  std::unordered_set<int64_t> live_ids_;  // submitted, last output not yet returned
  Stats published_;
  int64_t num_queued_ = 0;  // starts in the inbox
};

}  // namespace lmrun::engine
