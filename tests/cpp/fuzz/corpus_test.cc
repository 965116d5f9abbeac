#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/targets.h"

namespace lmrun::testing {
namespace {

// Runs a target over the inputs kept for it; returns how many the reader took.
int count_taken(const std::string& name, bool (*target)(const uint8_t*, size_t)) {
  int taken = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LMRUN_FUZZ_CORPUS "/" + name)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> input{std::istreambuf_iterator<char>(file), {}};
    if (target(reinterpret_cast<const uint8_t*>(input.data()), input.size())) ++taken;
  }
  return taken;
}

// Of the seeds: one that is refused tells a fuzzer little, so it follows the format.
TEST_CASE("the safetensors reader survives every input that a fuzzer kept, and takes the seeds") {
  CHECK(count_taken("safetensors", fuzz_safetensors) >= 2);
}

TEST_CASE("the workspace reader survives every input that a fuzzer kept, and takes the seeds") {
  CHECK(count_taken("workspace", fuzz_workspace) >= 10);
}

}  // namespace
}  // namespace lmrun::testing
