"""Quality of the demo model.

``python -m lmrun.demo.evaluate --checkpoint DIR`` runs the PyTorch model;
``--workspace DIR --kv-bits 4`` runs an engine workspace that `lmrun build` wrote. ``--data`` is a
folder with ``text`` and ``function-calling``. The last line is one JSON document.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer

from lmrun.demo import files, scoring
from lmrun.demo.format import BEGIN, END, PAD, USER
from lmrun.demo.scoring import MAX_TOKENS

WINDOW = 512
SAMPLES = (
    "Tell me a story about a fox named Pip.",
    "Once upon a time",
    "Hello! How are you?",
    "What is lmrun?",
    "How do I see what will run?",
    "What is the capital of France?",
)


class TorchRunner:
    """Greedy completions of the PyTorch model, in bf16 arithmetic on a GPU."""

    def __init__(self, folder: Path, device: str) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.device = torch.device(device)
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = files.load(folder).to(self.device, dtype)
        self.model.cos = files.load(folder).cos.to(self.device)
        self.model.sin = files.load(folder).sin.to(self.device)

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @torch.no_grad()
    def complete(self, prompts: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[str]:
        """Each prompt's continuation up to the end of the turn."""
        if not prompts:
            return []
        end, pad = self.encode(END)[0], self.encode(PAD)[0]
        encoded = [self.encode(text) for text in prompts]
        lengths = torch.tensor([len(ids) for ids in encoded], device=self.device)
        width = int(lengths.max()) + max_tokens
        ids = torch.full((len(encoded), width), pad, device=self.device)
        for row, text_ids in enumerate(encoded):
            ids[row, : len(text_ids)] = torch.tensor(text_ids, device=self.device)
        rows = torch.arange(len(encoded), device=self.device)
        starts = lengths.clone()
        is_over = torch.zeros(len(encoded), dtype=torch.bool, device=self.device)
        for _ in range(max_tokens):
            used = int(lengths.max())
            hidden = self.model.hidden(ids[:, :used], None)[rows, lengths - 1]
            chosen = (hidden @ self.model.model.embed_tokens.weight.T).argmax(-1)
            is_over |= chosen == end
            ids[rows, lengths] = torch.where(is_over, pad, chosen)
            lengths += (~is_over).long()
            if bool(is_over.all()):
                break
        return [
            self.tokenizer.decode(ids[row, start:stop].tolist(), skip_special_tokens=False)
            for row, (start, stop) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True))
        ]

    @torch.no_grad()
    def log_likelihood(self, windows: Sequence[Sequence[int]]) -> float:
        """Sum over all tokens after the first of each window."""
        total = 0.0
        for first in range(0, len(windows), 32):
            ids = torch.tensor(list(windows[first : first + 32]), device=self.device)
            logprobs = self.model.logits(ids[:, :-1], None).float().log_softmax(-1)
            total += float(logprobs.gather(-1, ids[:, 1:, None]).sum())
        return total


class Runner(Protocol):
    """What is evaluated."""

    def encode(self, text: str) -> list[int]:
        """Token ids."""

    def complete(self, prompts: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[str]:
        """Each prompt's greedy continuation up to the end of the turn."""

    def log_likelihood(self, windows: Sequence[Sequence[int]]) -> float:
        """Sum over all tokens after the first of each window."""


def story_loss(runner: Runner, path: Path, limit: int) -> dict[str, float]:
    """Mean loss a token and bits a byte of the start of a held-out text, in windows."""
    text = path.read_text(encoding="utf-8")[:limit]
    ids = runner.encode(text)
    begin = runner.encode(BEGIN)
    piece = WINDOW - 1
    windows = [begin + ids[i : i + piece] for i in range(0, len(ids) - piece + 1, piece)]
    counted = sum(len(window) - 1 for window in windows)
    total = runner.log_likelihood(windows)
    num_bytes = len(text.encode()) * counted / len(ids)
    return {
        "loss_per_token": round(-total / counted, 4),
        "bits_per_byte": round(scoring.bits_per_byte(total, int(num_bytes)), 4),
    }


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--kv-bits", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=scoring.SEED, help="of the draw of tasks")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--story-bytes", type=int, default=200_000)
    options = parser.parse_args()
    runner: Runner
    if options.workspace is not None:
        # the engine is not there on a machine that only trains
        from lmrun.demo.engine_runner import EngineRunner  # noqa: PLC0415

        runner = EngineRunner(options.workspace, options.kv_bits)
    else:
        runner = TorchRunner(options.checkpoint, options.device)
    calls = options.data / "function-calling" if options.data else None
    result: dict[str, Any] = scoring.report(runner.complete, options.count, calls, options.seed)
    if options.data:
        stories = options.data / "text" / "stories.valid.txt"
        result["stories"] = story_loss(runner, stories, options.story_bytes)
    prompts = [f"{BEGIN}{USER}{text}{END}<|assistant|>" for text in SAMPLES]
    result["samples"] = dict(zip(SAMPLES, runner.complete(prompts, 320), strict=True))
    out = sys.stdout
    for name, value in result.items():
        if "right" in value:
            out.write(f"{name:32} {value['right']} of {value['of']}\n")
    out.write(json.dumps(result, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
