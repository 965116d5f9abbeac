// What the fuzzers run, and corpus_test.cc over the inputs that are kept (README.md here). Each
// target takes any bytes; a reader may refuse them with base::Error and nothing else, and what it
// accepts must lie within the file. Anything else ends the program. Returns whether it was
// accepted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lmrun::testing {

// The header of a safetensors file, in front of data. Without a `{` to begin with: a whole file.
bool fuzz_safetensors(const uint8_t* input, size_t bytes);

// model.json, a zero byte and the header of rank-0.safetensors.
bool fuzz_workspace(const uint8_t* input, size_t bytes);

}  // namespace lmrun::testing
