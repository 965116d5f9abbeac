"""transformers as the reference: logits, greedy tokens, AWQ weights unpacked independently."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM

from lmrun import _engine

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


class RoundedCache(DynamicCache):
    """transformers' cache, keeping of K and V what a cache of 16, 8 or 4 bits keeps.

    Rounds before storing, so that attention reads what the cache holds; csrc/cache/README.md.
    """

    def __init__(self, bits: int = 16) -> None:
        super().__init__()
        self.bits = bits

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the rounded states."""
        key_states, value_states = self._rounded(key_states), self._rounded(value_states)
        return super().update(key_states, value_states, *args, **kwargs)

    def _rounded(self, states: torch.Tensor) -> torch.Tensor:
        if self.bits == 16:
            return states.half().float()
        low, high = states.amin(-1, keepdim=True), states.amax(-1, keepdim=True)
        scale = ((high - low) / (2**self.bits - 1)).half().float()
        zero = low.half().float()
        codes = ((states - zero) / scale.where(scale > 0, 1.0)).round().clamp(0, 2**self.bits - 1)
        return codes.where(scale > 0, 0.0) * scale + zero


def float_reference(folder: Path) -> LlamaForCausalLM:
    """The checkpoint in transformers, fp32 arithmetic."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def dequantized_reference(folder: Path) -> LlamaForCausalLM:
    """An AWQ folder in transformers on dequantized weights; unpacked here, not by lmrun."""
    config = LlamaConfig.from_pretrained(folder)
    group = config.quantization_config["group_size"]
    del config.quantization_config
    config.dtype = "float32"
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).eval()
    raw = load_file(folder / "model.safetensors")
    state: dict[str, torch.Tensor] = {}
    for name, tensor in load_torch(folder / "model.safetensors").items():
        stem, _, kind = name.rpartition(".")
        if kind == "qweight":
            codes, zeros = _nibbles(raw[name]), _nibbles(raw[f"{stem}.qzeros"])
            scales = raw[f"{stem}.scales"].astype(np.float32)
            weight = (codes - zeros.repeat(group, 0)) * scales.repeat(group, 0)
            state[f"{stem}.weight"] = torch.from_numpy(weight.T.copy())
        elif kind not in {"qzeros", "scales"}:
            state[name] = tensor.float()
    if config.tie_word_embeddings:
        shared = state.get("model.embed_tokens.weight", state.get("lm_head.weight"))
        assert shared is not None
        state["model.embed_tokens.weight"] = state["lm_head.weight"] = shared
    model.load_state_dict(state, strict=True)
    return model


def _nibbles(words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shifts = 4 * np.argsort(AWQ_ORDER)
    values = (words[:, :, None].astype(np.uint32) >> shifts.astype(np.uint32)) & 15
    return values.reshape(words.shape[0], -1).astype(np.float32)


def reference_logits(
    model: LlamaForCausalLM, tokens: list[int], *, rounded_cache: bool = False
) -> np.ndarray[Any, Any]:
    """Logits [T, V] of transformers."""
    cache = RoundedCache() if rounded_cache else None
    with torch.no_grad():
        output = model(torch.tensor([tokens]), past_key_values=cache)
    return output.logits[0].numpy()


def reference_greedy(
    model: LlamaForCausalLM, prompts: list[list[int]], count: int
) -> list[list[int]]:
    """Greedy tokens of transformers for prompts of one length, EOS ignored."""
    cache = DynamicCache()
    step, chosen = torch.tensor(prompts), []
    with torch.no_grad():
        for _ in range(count):
            step = model(step, past_key_values=cache).logits[:, -1].argmax(-1, keepdim=True)
            chosen.append(step)
    return torch.cat(chosen, 1).tolist()


def largest_gap_at_first_difference(
    model: LlamaForCausalLM,
    prompts: list[list[int]],
    ours: list[list[int]],
    theirs: list[list[int]],
) -> float:
    """Where two continuations part: how much better transformers finds its own token, in logits."""
    gaps = [0.0]
    for prompt, left, right in zip(prompts, ours, theirs, strict=True):
        if left != right:
            at = next(i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
            logits = reference_logits(model, [*prompt, *right[:at]])[-1]
            gaps.append(float(logits[right[at]] - logits[left[at]]))
    return max(gaps)


def greedy(engine: _engine.Engine, prompts: list[list[int]], count: int) -> list[list[int]]:
    """Greedy tokens of the engine for all prompts together, no stop ids."""
    for index, prompt in enumerate(prompts):
        engine.submit(
            index,
            prompt,
            temperature=0.0,
            top_k=None,
            top_p=1.0,
            seed=0,
            max_tokens=count,
            min_tokens=0,
            stop_token_ids=[],
            logit_bias={},
            logprobs=None,
        )
    tokens: list[list[int]] = [[] for _ in prompts]
    while engine.has_work():
        for output in engine.step():
            tokens[output.id].extend(output.token_ids)
    return tokens
