#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/concat.h"
#include "base/memory.h"
#include "base/residency.h"

namespace lmrun::engine {
namespace {

using base::concat;
using base::InvalidArgument;

// Rows of logits computed at once: enough to read the output matrix seldom, few enough that V
// floats a row stay small.
constexpr int64_t kFewLogitRows = 32;
constexpr int64_t kMostLogitRows = 128;

// Weights are copied only where this much memory stays free.
constexpr size_t kMemoryToSpare = size_t{256} << 20;

// Why a copy of `bytes` is not to be had; empty where it is.
std::string why_no_huge_pages(size_t weights, size_t kv) {
  if (!base::gives_huge_pages()) return "the system gives no huge pages";
  const std::optional<size_t> available = base::available_memory();
  if (!available || *available >= weights + kv + kMemoryToSpare) return "";
  const auto mib = [](size_t bytes) { return bytes >> 20; };
  return concat("a copy in huge pages needs ", mib(weights), " MiB beside ", mib(kv),
                " MiB of KV blocks and ", mib(kMemoryToSpare), " MiB to spare, ", mib(*available),
                " MiB are available");
}

// A preempted score comes here again and keeps what it has.
void take_memory(Scores* scores, int64_t num_tokens, int64_t vocab_size) {
  if (!scores->logprobs.empty()) return;
  const ScoreDetail& detail = scores->detail;
  const int64_t num_predictions = num_tokens - 1 - detail.first;
  scores->logprobs.resize(static_cast<size_t>(num_predictions));
  scores->top_ids.resize(static_cast<size_t>(num_predictions * detail.top));
  scores->top_logprobs.resize(scores->top_ids.size());
  if (detail.num_rows() > 0) {
    const auto size = static_cast<size_t>(detail.num_rows() * vocab_size);
    scores->vocab_size = vocab_size;
    scores->rows = std::make_unique_for_overwrite<float[]>(size);
  }
}

const Settings& checked(const Settings& settings, const workspace::Workspace& workspace) {
  check_settings(settings, workspace.config());
  return settings;
}

}  // namespace

Engine::Engine(const Settings& settings)
    : settings_(settings),
      workspace_(workspace::Workspace::open(settings.workspace)),
      isa_(kernels::parse_isa(settings.isa)),
      ops_(kernels::op_table(isa_)),
      pool_(static_cast<int>(checked(settings_, workspace_).threads)),
      blocks_(settings_.num_blocks, settings_.block_size),
      kv_(settings_.num_blocks, kv_layouts(settings_, workspace_.config()).front().block_bytes),
      scheduler_({settings_.max_num_seqs, settings_.max_batch_tokens, settings_.prefix_caching},
                 &blocks_),
      max_logit_rows_(std::min({std::max(settings_.max_num_seqs, kFewLogitRows), kMostLogitRows,
                                settings_.max_batch_tokens})),
      decoder_(workspace_, ops_, &pool_,
               {kv_layouts(settings_, workspace_.config()), settings_.max_batch_tokens,
                max_logit_rows_, settings_.context_length, settings_.activation_bits}),
      scratch_(static_cast<size_t>(settings_.threads)),
      choices_(static_cast<size_t>(max_logit_rows_)) {
  settings_.isa = kernels::isa_name(isa_);
  std::vector<int64_t>& bits = settings_.kv_bits;
  if (std::ranges::adjacent_find(bits, std::ranges::not_equal_to()) == bits.end()) bits.resize(1);
  counters_.num_blocks = settings_.num_blocks;
  counters_.seqs_per_step.resize(static_cast<size_t>(settings_.max_num_seqs));
  published_ = counters_;
  place_weights();
}

void Engine::place_weights() {
  std::string& chosen = settings_.weight_memory;
  if (chosen != "mapped") {
    why_mapped_ = why_no_huge_pages(workspace_.bytes().size(), kv_.bytes());
    if (why_mapped_.empty()) {
      chosen = "huge_pages";
      move_.emplace(workspace_.file());
      return;
    }
    if (chosen == "huge_pages") {
      throw base::Error(concat("weight_memory=huge_pages: ", why_mapped_, ". Use auto or mapped."));
    }
    chosen = "mapped";
  }
  // The first token reads all of it but the embedding; in order, the disk is faster.
  base::populate_for_reading(workspace_.bytes());
}

void Engine::wait_for_weights() {
  if (move_) move_->wait();
}

int64_t Engine::token_limit() const {
  return std::min(settings_.context_length, scheduler_.pool_tokens());
}

void Engine::check_tokens(const char* what, const std::vector<int32_t>& tokens) const {
  const int64_t vocab = vocab_size();
  for (const int32_t id : tokens) {
    if (id < 0 || id >= vocab) {
      throw InvalidArgument(concat(what, ": token id ", id, ": expected 0 to ", vocab - 1, "."));
    }
  }
  const auto size = static_cast<int64_t>(tokens.size());
  if (size > settings_.context_length) {
    throw InvalidArgument(
        concat(what, ": ", size, " tokens; the context length is ", settings_.context_length, "."));
  }
  if (size > scheduler_.pool_tokens()) {
    throw InvalidArgument(
        concat(what, ": ", size, " tokens; the KV cache holds ", scheduler_.pool_tokens(), "."));
  }
}

void Engine::enqueue(Start start) {
  const std::lock_guard<std::mutex> lock(inbox_mutex_);
  if (!live_ids_.insert(start.id).second) {
    throw InvalidArgument(concat("id ", start.id, ": in use."));
  }
  ++num_queued_;
  inbox_.emplace_back(std::move(start));
}

void Engine::submit(int64_t id, std::vector<int32_t> prompt, const sampling::Params& sampling,
                    std::optional<int64_t> max_tokens) {
  if (prompt.empty()) throw InvalidArgument("prompt: expected at least one token.");
  check_tokens("prompt", prompt);
  const auto size = static_cast<int64_t>(prompt.size());
  if (size + 1 > token_limit()) {
    throw InvalidArgument(concat(
        "prompt: ", size, " tokens leave no room for a completion: ", token_limit(), " fit."));
  }
  sampling::check_params(sampling, vocab_size());
  if (max_tokens && *max_tokens < 1) {
    throw InvalidArgument(concat("max_tokens=", *max_tokens, ": expected at least 1."));
  }
  if (max_tokens && sampling.min_tokens > *max_tokens) {
    throw InvalidArgument(concat("min_tokens=", sampling.min_tokens,
                                 ": expected at most max_tokens (", *max_tokens, ")."));
  }
  Start start{id, std::move(prompt), {}};
  start.request.kind = RequestKind::kCompletion;
  start.request.sampling = sampling;
  start.request.max_tokens = max_tokens;
  start.request.num_prompt_tokens = size;
  enqueue(std::move(start));
}

void Engine::score(int64_t id, std::vector<int32_t> tokens, const ScoreDetail& detail) {
  if (tokens.size() < 2) throw InvalidArgument("score: expected at least two tokens.");
  check_tokens("score", tokens);
  if (detail.top < 0 || detail.top > vocab_size()) {
    throw InvalidArgument(concat("top=", detail.top, ": expected 0 to ", vocab_size(), "."));
  }
  const auto num_predictions = static_cast<int64_t>(tokens.size()) - 1;
  if (detail.first < 0 || detail.first >= num_predictions) {
    throw InvalidArgument(
        concat("first=", detail.first, ": expected one of the ", num_predictions, " predictions."));
  }
  if (detail.rows_begin < 0 || detail.rows_end < detail.rows_begin ||
      detail.rows_end > num_predictions) {
    throw InvalidArgument(concat("rows=(", detail.rows_begin, ", ", detail.rows_end,
                                 "): expected a range inside the ", num_predictions,
                                 " predictions."));
  }
  if (detail.num_rows() > 0 && detail.rows_begin < detail.first) {
    throw InvalidArgument(concat("rows=(", detail.rows_begin, ", ", detail.rows_end,
                                 "): expected no prediction before first=", detail.first, "."));
  }
  Start start{id, std::move(tokens), {}};
  start.request.kind = RequestKind::kScore;
  start.request.num_prompt_tokens = static_cast<int64_t>(start.tokens.size());
  start.request.scores.detail = detail;
  enqueue(std::move(start));
}

void Engine::abort(int64_t id) {
  const std::lock_guard<std::mutex> lock(inbox_mutex_);
  if (live_ids_.contains(id)) inbox_.emplace_back(Abort{id});
}

bool Engine::has_work() const {
  const std::lock_guard<std::mutex> lock(inbox_mutex_);
  return !live_ids_.empty();
}

Stats Engine::stats() const {
  const std::lock_guard<std::mutex> lock(inbox_mutex_);
  Stats stats = published_;
  stats.waiting += num_queued_;
  return stats;
}

Residency Engine::residency() const {
  return {base::resident_bytes(workspace_.bytes()), base::huge_page_bytes(workspace_.bytes()),
          base::resident_bytes({kv_.data(), kv_.bytes()})};
}

std::vector<Output> Engine::step() {
  const std::lock_guard<std::mutex> lock(step_mutex_);
  if (failure_) throw base::Error(*failure_);
  std::vector<Output> outputs;
  try {
    take_commands(&outputs);
    run_step(&outputs);
  } catch (const std::exception& error) {
    failure_ = error.what();
    throw;
  }
  publish(outputs);
  return outputs;
}

std::vector<float> Engine::logits(std::vector<int32_t> tokens) {
  if (tokens.empty()) throw InvalidArgument("logits: expected at least one token.");
  check_tokens("logits", tokens);
  const std::lock_guard<std::mutex> lock(step_mutex_);
  if (failure_) throw base::Error(*failure_);
  LMRUN_CHECK(!scheduler_.has_work() && !has_work(), "logits: other requests run.");
  std::vector<float> logits(tokens.size() * static_cast<size_t>(vocab_size()));
  Request request;
  request.kind = RequestKind::kLogits;
  request.num_prompt_tokens = static_cast<int64_t>(tokens.size());
  request.logits = logits.data();
  // The scheduler is empty, and nothing else enters it before this returns: any id will do.
  requests_.emplace(0, std::move(request));
  scheduler_.add(0, std::move(tokens), false);
  std::vector<Output> outputs;
  try {
    while (scheduler_.has_work()) run_step(&outputs);
  } catch (const std::exception& error) {
    failure_ = error.what();
    throw;
  }
  publish({});
  return logits;
}

void Engine::take_commands(std::vector<Output>* outputs) {
  std::vector<Command> commands;
  {
    const std::lock_guard<std::mutex> lock(inbox_mutex_);
    commands.swap(inbox_);
    num_queued_ = 0;
    // Until the next publish they count as waiting.
    for (const Command& command : commands) {
      if (std::holds_alternative<Start>(command)) ++published_.waiting;
    }
  }
  for (Command& command : commands) {
    if (Start* start = std::get_if<Start>(&command)) {
      int64_t most_reused = std::numeric_limits<int64_t>::max();
      if (start->request.kind == RequestKind::kScore) {
        most_reused = start->request.scores.detail.first;
      }
      requests_.emplace(start->id, std::move(start->request));
      scheduler_.add(start->id, std::move(start->tokens), most_reused > 0, most_reused);
    } else {
      // Twice aborted, or ended by the step before: nothing is left to end.
      const int64_t id = std::get<Abort>(command).id;
      if (requests_.erase(id) == 0) continue;
      scheduler_.remove(id);
      Output output;
      output.id = id;
      output.finish_reason = FinishReason::kAbort;
      outputs->push_back(std::move(output));
    }
  }
}

void Engine::run_step(std::vector<Output>* outputs) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  const std::vector<scheduler::Chunk>& chunks = scheduler_.schedule();
  if (chunks.empty()) return;
  count_step(chunks);
  const StepKind kind = kind_of(chunks);
  prepare(chunks);
  decoder_.forward(tensors_.batch(), kv_.data());
  scheduler_.commit();
  read_logits(outputs);
  count_seconds(kind, std::chrono::duration<double>(Clock::now() - begin).count());
}

void Engine::prepare(const std::vector<scheduler::Chunk>& chunks) {
  tensors_.clear();
  for (const scheduler::Chunk& chunk : chunks) {
    RowsWanted wanted = RowsWanted::kLast;
    int64_t first = 0;
    Request& request = requests_.at(chunk.sequence->id);
    switch (request.kind) {
      case RequestKind::kCompletion:
        break;
      case RequestKind::kScore:
        wanted = RowsWanted::kHasNext;
        first = request.scores.detail.first;
        take_memory(&request.scores, request.num_prompt_tokens, vocab_size());
        break;
      case RequestKind::kLogits:
        wanted = RowsWanted::kAll;
        break;
    }
    tensors_.add(chunk, wanted, first);
  }
}

void Engine::read_logits(std::vector<Output>* outputs) {
  const std::span<const WantedRow> wanted = tensors_.wanted();
  const auto most = static_cast<size_t>(max_logit_rows_);
  const int64_t vocab = vocab_size();
  for (size_t first = 0; first < wanted.size(); first += most) {
    const size_t count = std::min(most, wanted.size() - first);
    float* logits = decoder_.logits(tensors_.wanted_rows().subspan(first, count));
    pool_.parallel_for(static_cast<int64_t>(count), 1, [&](int64_t i, int64_t, int thread) {
      use_row(wanted[first + static_cast<size_t>(i)], logits + i * vocab,
              &scratch_[static_cast<size_t>(thread)], &choices_[static_cast<size_t>(i)]);
    });
    for (size_t i = 0; i < count; ++i) finish_row(wanted[first + i], choices_[i], outputs);
  }
  end_failed(outputs);
}

void Engine::use_row(const WantedRow& wanted, float* logits, Scratch* scratch,
                     sampling::Choice* choice) {
  Request& request = requests_.at(wanted.sequence->id);
  const int64_t vocab = vocab_size();
  const int64_t next = wanted.position + 1;
  switch (request.kind) {
    case RequestKind::kCompletion:
      *choice = scratch->sampler.sample(ops_, logits, vocab, request.sampling,
                                        next - request.num_prompt_tokens);
      return;
    case RequestKind::kScore:
      score_row(wanted, logits, &request, scratch, choice);
      return;
    case RequestKind::kLogits:
      choice->is_finite = true;  // the caller sees what it gets
      std::memcpy(request.logits + wanted.position * vocab, logits,
                  static_cast<size_t>(vocab) * sizeof(float));
      return;
  }
}

void Engine::score_row(const WantedRow& wanted, const float* logits, Request* request,
                       Scratch* scratch, sampling::Choice* choice) {
  const int64_t vocab = vocab_size();
  choice->is_finite = sampling::are_finite(logits, vocab);
  if (!choice->is_finite) return;
  Scores& scores = request->scores;
  const ScoreDetail& detail = scores.detail;
  const int64_t position = wanted.position;
  const int64_t told = position - detail.first;
  float max = 0;
  float log_sum_exp = 0;
  ops_.max_and_log_sum_exp(logits, vocab, &max, &log_sum_exp);
  scores.logprobs[static_cast<size_t>(told)] =
      logits[wanted.sequence->tokens[static_cast<size_t>(position + 1)]] - log_sum_exp;
  int32_t* ids = scores.top_ids.data() + told * detail.top;
  float* logprobs = scores.top_logprobs.data() + told * detail.top;
  scratch->best.find(logits, vocab, detail.top, ids);
  for (int64_t i = 0; i < detail.top; ++i) logprobs[i] = logits[ids[i]] - log_sum_exp;
  if (position >= detail.rows_begin && position < detail.rows_end) {
    float* row = scores.rows.get() + (position - detail.rows_begin) * vocab;
    for (int64_t i = 0; i < vocab; ++i) row[i] = logits[i] - log_sum_exp;
  }
}

void Engine::finish_row(const WantedRow& wanted, const sampling::Choice& choice,
                        std::vector<Output>* outputs) {
  scheduler::Sequence* sequence = wanted.sequence;
  const int64_t id = sequence->id;
  Request& request = requests_.at(id);
  const int64_t next = wanted.position + 1;
  if (!choice.is_finite && request.error.empty()) {
    request.error = concat("logits: expected finite numbers, the model gave others at position ",
                           wanted.position, ".");
    failed_.push_back(id);
  }
  // Other rows of the sequence may follow: it ends after all of them.
  if (!request.error.empty()) return;
  Output output;
  output.id = id;
  output.num_cached_tokens = sequence->num_cached_tokens;
  if (request.kind == RequestKind::kCompletion) {
    const sampling::Params& sampling = request.sampling;
    scheduler_.append(sequence, choice.id);
    ++counters_.completion_tokens;
    output.token_ids.push_back(choice.id);
    if (sampling.logprobs) {
      output.logprobs.push_back(choice.logprob);
      output.top_logprobs.push_back(choice.top);
    }
    const int64_t num_tokens = sequence->num_tokens();
    if (std::ranges::find(sampling.stop_token_ids, choice.id) != sampling.stop_token_ids.end()) {
      output.finish_reason = FinishReason::kStop;
    } else if (num_tokens == token_limit() ||
               num_tokens - request.num_prompt_tokens == request.max_tokens) {
      output.finish_reason = FinishReason::kLength;
    }
  } else {
    const int64_t last = sequence->num_tokens() - (request.kind == RequestKind::kScore ? 1 : 0);
    if (next < last) return;
    output.finish_reason = FinishReason::kStop;
    if (request.kind == RequestKind::kScore) output.scores = std::move(request.scores);
  }
  if (output.finish_reason) {
    requests_.erase(id);
    scheduler_.remove(id);
  }
  outputs->push_back(std::move(output));
}

void Engine::end_failed(std::vector<Output>* outputs) {
  for (const int64_t id : failed_) {
    Output output;
    output.id = id;
    output.finish_reason = FinishReason::kError;
    output.error = std::move(requests_.at(id).error);
    requests_.erase(id);
    scheduler_.remove(id);
    outputs->push_back(std::move(output));
  }
  failed_.clear();
}

void Engine::count_step(const std::vector<scheduler::Chunk>& chunks) {
  ++counters_.num_steps;
  counters_.last_step_seqs = static_cast<int64_t>(chunks.size());
  counters_.peak_used_blocks = std::max(counters_.peak_used_blocks, blocks_.num_used());
  counters_.touched_blocks = blocks_.num_touched();
  ++counters_.seqs_per_step[chunks.size() - 1];
  for (const scheduler::Chunk& chunk : chunks) {
    Request& request = requests_.at(chunk.sequence->id);
    if (std::exchange(request.was_counted, true)) continue;
    counters_.prompt_tokens += request.num_prompt_tokens;
    counters_.cached_tokens += chunk.sequence->num_cached_tokens;
  }
}

Engine::StepKind Engine::kind_of(const std::vector<scheduler::Chunk>& chunks) const {
  StepKind kind;
  kind.seqs = static_cast<int64_t>(chunks.size());
  for (const scheduler::Chunk& chunk : chunks) {
    const Request& request = requests_.at(chunk.sequence->id);
    kind.tokens += chunk.size;
    kind.context += chunk.begin;
    if (request.kind != RequestKind::kCompletion) {
      ++kind.scores;
    } else if (chunk.size == 1 && chunk.begin >= request.num_prompt_tokens) {
      ++kind.decodes;
    }
  }
  return kind;
}

void Engine::count_seconds(const StepKind& kind, double seconds) {
  const auto add = [&](StepCounts* counts) {
    ++counts->steps;
    counts->seqs += kind.seqs;
    counts->tokens += kind.tokens;
    counts->context += kind.context;
    counts->seconds += seconds;
  };
  counters_.step_seconds += seconds;
  if (kind.decodes == kind.seqs) {
    add(&counters_.decode);
    if (kind.seqs == 1) add(&counters_.decode_one);
  } else if (kind.decodes == 0 && kind.scores == 0 &&
             2 * kind.tokens >= settings_.max_batch_tokens) {
    add(&counters_.prefill);
  }
}

void Engine::publish(const std::vector<Output>& outputs) {
  counters_.used_blocks = blocks_.num_used();
  counters_.running = scheduler_.num_running();
  counters_.waiting = scheduler_.num_waiting();
  counters_.preemptions = scheduler_.num_preemptions();
  const std::lock_guard<std::mutex> lock(inbox_mutex_);
  for (const Output& output : outputs) {
    if (output.finish_reason) live_ids_.erase(output.id);
  }
  published_ = counters_;
}

}  // namespace lmrun::engine
