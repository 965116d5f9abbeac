#include "engine/engine.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <map>
#include <tuple>

#include "bindings/module.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

using engine::Engine;
using engine::Settings;

// Any integer, modulo 2^64.
uint64_t seed_of(const py::int_& seed) {
  const uint64_t value = PyLong_AsUnsignedLongLongMask(seed.ptr());
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return value;
}

void submit(Engine& engine, int64_t id, std::vector<int32_t> prompt, float temperature,
            std::optional<int64_t> top_k, float top_p, const py::int_& seed,
            std::optional<int64_t> max_tokens, int64_t min_tokens,
            std::vector<int32_t> stop_token_ids, const std::map<int32_t, float>& logit_bias,
            std::optional<int64_t> logprobs) {
  sampling::Params params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.seed = seed_of(seed);
  params.min_tokens = min_tokens;
  params.stop_token_ids = std::move(stop_token_ids);
  params.logit_bias.assign(logit_bias.begin(), logit_bias.end());
  params.logprobs = logprobs;
  engine.submit(id, std::move(prompt), params, max_tokens);
}

void score(Engine& engine, int64_t id, std::vector<int32_t> tokens, int64_t top,
           std::optional<std::pair<int64_t, int64_t>> rows, int64_t first) {
  engine::ScoreDetail detail;
  detail.top = top;
  detail.first = first;
  if (rows) std::tie(detail.rows_begin, detail.rows_end) = *rows;
  engine.score(id, std::move(tokens), detail);
}

py::array_t<float> logits(Engine& engine, std::vector<int32_t> tokens) {
  const auto rows = static_cast<py::ssize_t>(tokens.size());
  std::vector<float> values;
  {
    const py::gil_scoped_release unlocked;
    values = engine.logits(std::move(tokens));
  }
  const auto columns = static_cast<py::ssize_t>(engine.vocab_size());
  return py::array_t<float>({rows, columns}, values.data());
}

py::dict counts(const engine::StepCounts& counts) {
  py::dict fields;
  fields["steps"] = counts.steps;
  fields["seqs"] = counts.seqs;
  fields["tokens"] = counts.tokens;
  fields["context"] = counts.context;
  fields["seconds"] = counts.seconds;
  return fields;
}

py::dict residency(const Engine& engine) {
  engine::Residency found;
  {
    const py::gil_scoped_release unlocked;
    found = engine.residency();
  }
  py::dict fields;
  fields["weights_bytes"] = found.weights_bytes;
  fields["weights_huge_bytes"] = found.weights_huge_bytes;
  fields["kv_bytes"] = found.kv_bytes;
  return fields;
}

py::dict stats(const Engine& engine) {
  const engine::Stats stats = engine.stats();
  py::dict fields;
  fields["num_blocks"] = stats.num_blocks;
  fields["used_blocks"] = stats.used_blocks;
  fields["running"] = stats.running;
  fields["waiting"] = stats.waiting;
  fields["num_steps"] = stats.num_steps;
  fields["prompt_tokens"] = stats.prompt_tokens;
  fields["completion_tokens"] = stats.completion_tokens;
  fields["cached_tokens"] = stats.cached_tokens;
  fields["preemptions"] = stats.preemptions;
  fields["last_step_seqs"] = stats.last_step_seqs;
  fields["seqs_per_step"] = stats.seqs_per_step;
  fields["touched_blocks"] = stats.touched_blocks;
  fields["peak_used_blocks"] = stats.peak_used_blocks;
  fields["step_seconds"] = stats.step_seconds;
  fields["decode_one"] = counts(stats.decode_one);
  fields["decode"] = counts(stats.decode);
  fields["prefill"] = counts(stats.prefill);
  return fields;
}

py::dict effective_config(const Engine& engine) {
  const Settings& settings = engine.effective_settings();
  py::dict fields;
  fields["workspace"] = settings.workspace;
  fields["isa"] = settings.isa;
  fields["threads"] = settings.threads;
  fields["num_blocks"] = settings.num_blocks;
  fields["block_size"] = settings.block_size;
  if (settings.kv_bits.size() == 1) {
    fields["kv_bits"] = settings.kv_bits.front();
  } else {
    fields["kv_bits"] = settings.kv_bits;
  }
  fields["activation_bits"] = settings.activation_bits;
  fields["max_num_seqs"] = settings.max_num_seqs;
  fields["max_batch_tokens"] = settings.max_batch_tokens;
  fields["context_length"] = settings.context_length;
  fields["prefix_caching"] = settings.prefix_caching;
  fields["weight_memory"] = settings.weight_memory;
  return fields;
}

std::unique_ptr<Engine> make_engine(const std::string& workspace, const std::string& isa,
                                    int64_t threads, int64_t num_blocks, int64_t block_size,
                                    const std::variant<int64_t, std::vector<int64_t>>& kv_bits,
                                    int64_t activation_bits, int64_t max_num_seqs,
                                    int64_t max_batch_tokens, int64_t context_length,
                                    bool prefix_caching, const std::string& weight_memory) {
  const auto* of_all = std::get_if<int64_t>(&kv_bits);
  const std::vector<int64_t> bits =
      of_all != nullptr ? std::vector{*of_all} : std::get<std::vector<int64_t>>(kv_bits);
  const py::gil_scoped_release unlocked;
  return std::make_unique<Engine>(Settings{workspace, isa, threads, num_blocks, block_size, bits,
                                           activation_bits, max_num_seqs, max_batch_tokens,
                                           context_length, prefix_caching, weight_memory});
}

}  // namespace

void bind_engine(py::module_& module) {
  using py::arg;
  using release = py::call_guard<py::gil_scoped_release>;
  py::class_<Engine>(module, "Engine")
      .def(py::init(&make_engine), py::kw_only(), arg("workspace"), arg("isa"), arg("threads"),
           arg("num_blocks"), arg("block_size"), arg("kv_bits"), arg("activation_bits"),
           arg("max_num_seqs"), arg("max_batch_tokens"), arg("context_length"),
           arg("prefix_caching"), arg("weight_memory") = "auto")
      .def("submit", &submit, arg("id"), arg("prompt"), py::kw_only(), arg("temperature"),
           arg("top_k"), arg("top_p"), arg("seed"), arg("max_tokens"), arg("min_tokens"),
           arg("stop_token_ids"), arg("logit_bias"), arg("logprobs"))
      .def("score", &score, arg("id"), arg("tokens"), py::kw_only(), arg("top") = 0,
           arg("rows") = py::none(), arg("first") = 0)
      .def("abort", &Engine::abort, arg("id"))
      .def("has_work", &Engine::has_work)
      .def("step", &Engine::step, release())
      .def("logits", &logits, arg("tokens"))
      .def("stats", &stats)
      .def("residency", &residency)
      .def("effective_config", &effective_config)
      .def("check", &Engine::check)
      .def("why_mapped", &Engine::why_mapped)
      .def("wait_for_weights", &Engine::wait_for_weights, release())
      .def_property_readonly("vocab_size", &Engine::vocab_size);
}

}  // namespace lmrun::bindings
