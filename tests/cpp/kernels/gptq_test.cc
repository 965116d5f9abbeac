#include "kernels/gptq.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "engine/gptq.h"
#include "kernels/random_inputs.h"

namespace lmrun::kernels::testing {
namespace {

// A block with two groups of features, and what a solve of it writes.
struct Block {
  Block(int64_t features, int64_t rows)
      : features(features),
        rows(rows),
        feedback(random_floats(features * features, 1, 0.1f)),
        cost(random_floats(features, 2)),
        scale(random_floats(2 * rows, 3)),
        zero(static_cast<size_t>(2 * rows)),
        weight(random_floats(features * rows, 4)),
        wanted(weight),
        change(weight.size(), 99.0f),
        codes(weight.size(), 99),
        error(static_cast<size_t>(rows), 1.0f),
        products(scale.size(), 2.0f),
        squares(scale.size(), 3.0f) {
    for (int64_t i = 0; i < features; ++i) group.push_back(static_cast<int32_t>(i * 7 % 2));
    for (float& value : cost) value = 0.5f + std::abs(value);
    for (float& value : scale) value = 0.1f + std::abs(value) * 0.1f;
    for (size_t i = 0; i < zero.size(); ++i) zero[i] = static_cast<float>(i % 16);
  }

  GptqBlockArgs args() {
    return {features,        rows,          feedback.data(), features,     1,
            cost.data(),     group.data(),  scale.data(),    zero.data(),  15.0f,
            weight.data(),   wanted.data(), change.data(),   codes.data(), error.data(),
            products.data(), squares.data()};
  }

  engine::GptqShapes shapes() const {
    const engine::Shape whole = {features, rows};
    const engine::Shape grid = {2, rows};
    return {{features, features},
            {features, 1},
            {features, 1},
            grid,
            grid,
            whole,
            whole,
            whole,
            whole,
            {rows, 1},
            grid,
            grid};
  }

  int64_t features;
  int64_t rows;
  std::vector<float> feedback, cost, scale, zero, weight, wanted, change;
  std::vector<uint8_t> codes;
  std::vector<float> error, products, squares;
  std::vector<int32_t> group;
};

void check_close(const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK(std::abs(found[i] - expected[i]) <= 1e-4f * (1.0f + std::abs(expected[i])));
  }
}

TEST_CASE("a block of one feature is rounded to nearest within its codes") {
  Block block(1, 3);
  block.scale = {1.0f, 1.0f, 0.5f, 1.0f, 1.0f, 1.0f};
  block.zero = {8.0f, 8.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  block.weight = block.wanted = {2.5f, 100.0f, -1.0f};
  for (const SolveGptqBlock solve : {reference::solve_gptq_block, solve_gptq_block()}) {
    Block one = block;
    solve(one.args());
    CHECK(one.codes == std::vector<uint8_t>{10, 15, 0});
    CHECK(one.change == std::vector<float>{-0.5f, -93.0f, 1.0f});
    CHECK(one.error[0] == doctest::Approx(1.0f + 0.25f * one.cost[0]));
    CHECK(one.squares[0] == doctest::Approx(3.0f + 4.0f * one.cost[0]));
    CHECK(one.products[0] == doctest::Approx(2.0f + 5.0f * one.cost[0]));
  }
}

TEST_CASE(
    "each variant solves as the reference does, whatever the shape and "
    "the strides") {
  for (const auto& [features, rows] :
       {std::pair<int64_t, int64_t>{2, 1}, {5, 17}, {31, 64}, {64, 65}, {128, 131}}) {
    CAPTURE(features);
    CAPTURE(rows);
    Block expected(features, rows);
    reference::solve_gptq_block(expected.args());
    Block found(features, rows);
    std::vector<float> transposed(found.feedback.size());
    for (int64_t i = 0; i < features; ++i) {
      for (int64_t j = 0; j < features; ++j) {
        transposed[static_cast<size_t>(j * features + i)] =
            found.feedback[static_cast<size_t>(i * features + j)];
      }
    }
    GptqBlockArgs args = found.args();
    args.feedback = transposed.data();
    args.feedback_row = 1;
    args.feedback_column = features;
    solve_gptq_block()(args);
    CHECK(found.codes == expected.codes);
    check_close(found.wanted, expected.wanted);
    check_close(found.change, expected.change);
    check_close(found.error, expected.error);
    check_close(found.products, expected.products);
    check_close(found.squares, expected.squares);
  }
}

TEST_CASE("arrays that do not fit the weights are refused by name") {
  Block block(4, 3);
  engine::GptqShapes shapes = block.shapes();
  engine::solve_gptq_block(shapes, block.args());
  shapes.scale = {2, 2};
  CHECK_THROWS_WITH_AS(engine::solve_gptq_block(shapes, block.args()),
                       "solve_gptq_block: scale: expected [2, 3], got [2, 2]."
                       " Give arrays that fit the weights.",
                       base::InvalidArgument);
  block.group[1] = 2;
  CHECK_THROWS_WITH_AS(engine::solve_gptq_block(block.shapes(), block.args()),
                       "solve_gptq_block: group: expected 0 to 1, got 2. Give a row of scale.",
                       base::InvalidArgument);
}

}  // namespace
}  // namespace lmrun::kernels::testing
