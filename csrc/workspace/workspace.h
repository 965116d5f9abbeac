// A workspace folder, mapped and checked (README.md of this folder).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/mapped_file.h"
#include "workspace/model_config.h"
#include "workspace/weights.h"

namespace lmrun::workspace {

class Workspace {
 public:
  // Throws base::Error naming file and tensor for whatever is wrong.
  static Workspace open(const std::string& folder);

  const ModelConfig& config() const { return config_; }
  // Views of the mapping: valid while this lives.
  const Weights& weights() const { return weights_; }
  // The mapped file of the tensors, and its bytes.
  const base::MappedFile& file() const { return file_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }

 private:
  Workspace(ModelConfig config, base::MappedFile file);

  ModelConfig config_;
  base::MappedFile file_;
  Weights weights_;
};

}  // namespace lmrun::workspace
