// The entry of libFuzzer; built once a target.
#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* input, size_t bytes) {
  lmrun::testing::LMRUN_FUZZ_TARGET(input, bytes);
  return 0;
}
