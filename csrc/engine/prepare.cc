#include "engine/prepare.h"

namespace lmrun::engine {
namespace {

bool is_wanted(RowsWanted wanted, int64_t position, int64_t num_tokens) {
  switch (wanted) {
    case RowsWanted::kLast:
      return position + 1 == num_tokens;
    case RowsWanted::kHasNext:
      return position + 1 < num_tokens;
    case RowsWanted::kAll:
      return true;
  }
  return false;
}

}  // namespace

void StepTensors::clear() {
  ids_.clear();
  positions_.clear();
  sequences_.clear();
  wanted_.clear();
  wanted_rows_.clear();
}

void StepTensors::add(const scheduler::Chunk& chunk, RowsWanted wanted, int64_t first) {
  scheduler::Sequence* sequence = chunk.sequence;
  const auto first_row = static_cast<int64_t>(ids_.size());
  sequences_.push_back({first_row, chunk.size, chunk.begin, sequence->blocks.data()});
  for (int64_t i = 0; i < chunk.size; ++i) {
    const int64_t position = chunk.begin + i;
    ids_.push_back(sequence->tokens[static_cast<size_t>(position)]);
    positions_.push_back(static_cast<int32_t>(position));
    if (position >= first && is_wanted(wanted, position, sequence->num_tokens())) {
      const auto row = static_cast<int32_t>(first_row + i);
      wanted_.push_back({row, sequence, position});
      wanted_rows_.push_back(row);
    }
  }
}

}  // namespace lmrun::engine
