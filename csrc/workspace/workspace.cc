#include "workspace/workspace.h"

#include <utility>

namespace lmrun::workspace {
namespace {

constexpr size_t kMaxModelJsonBytes = size_t{1} << 20;

}  // namespace

Workspace::Workspace(ModelConfig config, base::MappedFile file)
    : config_(std::move(config)),
      file_(std::move(file)),
      weights_(read_weights(config_, file_.bytes(), file_.path())) {}

Workspace Workspace::open(const std::string& folder) {
  const std::string model_json = folder + "/model.json";
  ModelConfig config =
      parse_model_config(base::read_text_file(model_json, kMaxModelJsonBytes), model_json);
  return {std::move(config), base::MappedFile(folder + "/rank-0.safetensors")};
}

}  // namespace lmrun::workspace
