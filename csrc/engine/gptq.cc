#include "engine/gptq.h"

#include "base/check.h"
#include "base/concat.h"

namespace lmrun::engine {
namespace {

void expect(const char* name, const Shape& found, int64_t rows, int64_t columns) {
  if (found.rows == rows && found.columns == columns) return;
  throw base::InvalidArgument(base::concat("solve_gptq_block: ", name, ": expected [", rows, ", ",
                                           columns, "], got [", found.rows, ", ", found.columns,
                                           "]. Give arrays that fit the weights."));
}

}  // namespace

void solve_gptq_block(const GptqShapes& shapes, const kernels::GptqBlockArgs& args) {
  const int64_t features = args.features;
  const int64_t rows = args.rows;
  const int64_t groups = shapes.scale.rows;
  if (features > kernels::kGptqBlock) {
    throw base::InvalidArgument(base::concat("solve_gptq_block: weight: expected at most ",
                                             kernels::kGptqBlock, " features, got ", features,
                                             ". Solve in blocks."));
  }
  expect("feedback", shapes.feedback, features, features);
  expect("cost", shapes.cost, features, 1);
  expect("group", shapes.group, features, 1);
  expect("scale", shapes.scale, groups, rows);
  expect("zero", shapes.zero, groups, rows);
  expect("wanted", shapes.wanted, features, rows);
  expect("change", shapes.change, features, rows);
  expect("codes", shapes.codes, features, rows);
  expect("error", shapes.error, rows, 1);
  expect("products", shapes.products, groups, rows);
  expect("squares", shapes.squares, groups, rows);
  for (int64_t i = 0; i < features; ++i) {
    if (args.group[i] < 0 || args.group[i] >= groups) {
      throw base::InvalidArgument(base::concat("solve_gptq_block: group: expected 0 to ",
                                               groups - 1, ", got ", args.group[i],
                                               ". Give a row of scale."));
    }
  }
  static const kernels::SolveGptqBlock solve = kernels::solve_gptq_block();
  solve(args);
}

}  // namespace lmrun::engine
