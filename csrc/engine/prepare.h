// A scheduled step becomes tensors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "scheduler/scheduler.h"

namespace lmrun::engine {

// Which rows of a chunk have a use for logits.
enum class RowsWanted : uint8_t {
  kLast,     // the row of the last known token, in the chunk that holds it
  kHasNext,  // rows whose next token is known
  kAll,
};

// A row of the batch whose logits are wanted.
struct WantedRow {
  int32_t row = 0;
  scheduler::Sequence* sequence = nullptr;
  int64_t position = 0;
};

// Reused from step to step, so that a step allocates nothing once these have grown.
class StepTensors {
 public:
  void clear();
  // Rows are in the order of the chunks added. None before position `first` is wanted.
  void add(const scheduler::Chunk& chunk, RowsWanted wanted, int64_t first = 0);

  // Valid until the next `clear`, while the sequences keep their blocks.
  model::Batch batch() const { return {ids_, positions_, sequences_}; }
  std::span<const WantedRow> wanted() const { return wanted_; }
  // The `row` of each of `wanted`.
  std::span<const int32_t> wanted_rows() const { return wanted_rows_; }

 private:
  std::vector<int32_t> ids_;
  std::vector<int32_t> positions_;
  std::vector<model::SequenceRows> sequences_;
  std::vector<WantedRow> wanted_;
  std::vector<int32_t> wanted_rows_;
};

}  // namespace lmrun::engine
