"""Trains the demo model: ``python -m lmrun.demo.train --texts DIR --run DIR --out DIR``.

The same command goes on from ``--run``'s checkpoint, written each minute, until ``--steps`` are
done; ``--minutes`` ends one command early. Data are generated while it trains: batch number i is a
function of the seed and i.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmrun.demo import files
from lmrun.demo.batches import PROMPT_WEIGHT, Batch, Maker, stream
from lmrun.demo.model import (
    DemoModel,
    Packed,
    Shape,
    document_mask,
    linears,
    rounded_weight,
)
from lmrun.demo.optimizer import Muon

logger = logging.getLogger("lmrun.demo.train")
FOLDER = Path(__file__).parent
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
MAX_DOCUMENTS = 16
"""In a row, on the average of a batch."""
WARM_UP = 100
COOL_DOWN = 0.45
"""Part of the steps in which the learning rate falls to zero."""
ROUNDED_FROM = 4000
"""The step from which a third of the steps see the weights that 4-bit quantization leaves."""


def rate(step: int, steps: int) -> float:
    """The learning rate of a step, as a part of the highest."""
    return min((step + 1) / min(WARM_UP, steps), (steps - step) / (COOL_DOWN * steps), 1.0)


def packed(documents: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int32], int]:
    """Where documents begin, of their numbers [rows, length], in as many places for every batch;
    and the length of a row."""
    rows, length = documents.shape
    begins = np.ones(documents.shape, np.bool_)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    found = np.flatnonzero(begins)
    starts = np.full(rows * MAX_DOCUMENTS + 1, rows * length, np.int32)
    starts[: len(found)] = found
    return starts, length


class Trainer:
    """Model, optimizers and the number of steps done."""

    def __init__(self, shape: Shape, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.device = torch.device(options.device)
        self.model = DemoModel(shape).to(self.device)
        matrices = linears(self.model)
        chosen = {id(parameter) for parameter in matrices}
        others = [p for p in self.model.parameters() if id(p) not in chosen]
        self.muon = Muon(matrices)
        self.is_cuda = self.device.type == "cuda"
        self.adam = torch.optim.AdamW(
            others,
            lr=options.embedding_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=self.is_cuda,
        )
        self.step = 0
        self._rounded: Callable[[Tensor], Tensor] = rounded_weight
        self._forward: Callable[..., tuple[Tensor, Tensor]] = self.model
        if self.is_cuda:
            mode = "reduce-overhead" if options.graphs else "default"
            self._forward = torch.compile(self.model, mode=mode)
            self._rounded = torch.compile(rounded_weight, dynamic=False)

    def _mask(self, documents: npt.NDArray[np.int16]) -> Packed | Tensor | None:
        if self.options.attention == "causal":
            return None
        if not self.is_cuda:
            return document_mask(torch.from_numpy(documents))
        starts, longest = packed(documents)
        return Packed(self._sent(starts), longest)

    def _sent(self, array: npt.NDArray[Any]) -> Tensor:
        """On the device; from pinned memory, so that nobody waits for the copy."""
        tensor = torch.from_numpy(array)
        if not self.is_cuda:
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One update; the losses are still on the device."""
        ids = self._sent(batch.token_ids).long()
        learned = self._sent(batch.is_learned)
        targets = ids[:, 1:].contiguous()
        weights = torch.where(learned[:, 1:], 1.0, PROMPT_WEIGHT)
        weights = torch.where(targets == 2, 0.0, weights)
        mask = self._mask(batch.documents[:, :-1])
        if self.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        is_rounded = self.step % 3 == 2 and self.step >= ROUNDED_FROM
        kept = self.muon.rounded(self._rounded) if is_rounded else []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_cuda):
            loss, answers = self._forward(
                ids[:, :-1].contiguous(), targets, weights, mask, self.options.rows // 4
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.muon.restore(kept)
        part = rate(self.step, self.options.steps)
        self.muon.step(self.options.matrix_rate * part)
        for group in self.adam.param_groups:
            group["lr"] = self.options.embedding_rate * part
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        return loss.detach(), answers

    def save(self, path: Path) -> None:
        """The checkpoint, written aside and renamed."""
        state = {
            "model": self.model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.step,
        }
        aside = path.with_suffix(".part")
        torch.save(state, aside)
        aside.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step = state["step"]


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The command line; ``--tiny`` is the reduced size that a CPU trains in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoint and log")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--texts", type=Path, help="folder of public texts")
    parser.add_argument("--start", type=Path, help="folder of a model to go on from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=9.0, help="end this command after them")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--embedding-rate", type=float, default=0.003)
    parser.add_argument("--attention", choices=("documents", "causal"), default="documents")
    parser.add_argument("--graphs", action="store_true", help="launch a step as CUDA graphs")
    parser.add_argument("--tiny", action="store_true")
    for name in SIZES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Shape, name))
    return parser.parse_args(line)


def shape_of(options: argparse.Namespace) -> Shape:
    """The sizes to train."""
    if not options.tiny:
        return replace(Shape(), **{name: getattr(options, name) for name in SIZES})
    return replace(
        Shape(),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )


def train(options: argparse.Namespace) -> Trainer:
    """Train until the steps or the minutes are over; the model is written at the last step."""
    started = time.monotonic()
    if options.device == "cuda":
        torch.set_num_threads(1)  # the workers need the cores
    options.run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(shape_of(options), options)
    checkpoint = options.run / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif options.start is not None:
        trainer.model.load_state_dict(files.load(options.start).state_dict())
    given = (FOLDER, options.texts, options.seed, options.rows, options.length)
    batches = stream(Maker(*given), given, trainer.step, options.workers)
    saved = logged = time.monotonic()
    first = trainer.step
    with (options.run / "log.jsonl").open("a", encoding="utf-8") as log:
        while trainer.step < options.steps:
            loss, answers = trainer.train_step(next(batches))
            now = time.monotonic()
            if trainer.step % 50 == 0 or trainer.step in (1, options.steps):
                line = {
                    "step": trainer.step,
                    "loss": round(float(loss), 4),
                    "answers": round(float(answers), 4),
                    "seconds": round(now - started, 1),
                }
                if not math.isfinite(line["loss"]):
                    raise ArithmeticError(f"step {trainer.step}: the loss is {line['loss']}")
                now = time.monotonic()
                tokens = (trainer.step - first) * options.rows * options.length
                line["tokens_per_s"] = round(tokens / (now - logged))
                logged, first = now, trainer.step
                log.write(json.dumps(line) + "\n")
                log.flush()
                logger.info("%s", json.dumps(line))
            is_over = now - started > 60 * options.minutes
            if now - saved > 60 or is_over or trainer.step == options.steps:
                trainer.save(checkpoint)
                saved = time.monotonic()
            if is_over:
                break
    batches.close()
    if trainer.step >= options.steps or trainer.is_cuda:
        files.save(trainer.model, options.out)
    return trainer


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_float32_matmul_precision("high")
    train(arguments())


if __name__ == "__main__":
    main()
