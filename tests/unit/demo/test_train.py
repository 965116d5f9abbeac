"""A tiny model trains on the CPU, and a run that was cut goes on as if it had not been."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lmrun.demo import files, train
from lmrun.demo.model import (
    DemoModel,
    Shape,
    attention,
    document_mask,
    rounded_kv,
    rounded_weight,
)
from lmrun.demo.optimizer import orthogonal


def _options(folder: Path, *more: str) -> argparse.Namespace:
    line = ["--run", str(folder / "run"), "--out", str(folder / "out"), "--tiny", "--device", "cpu"]
    line += ["--rows", "2", "--length", "128", "--workers", "0", *more]
    return train.arguments(line)


def test_a_tiny_run_learns_writes_its_model_and_goes_on_after_a_cut(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = train.train(_options(tmp_path / "whole", "--steps", "24"))
    lines = (tmp_path / "whole/run/log.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert first["step"] == 1
    assert last["step"] == 24
    assert last["loss"] < 0.8 * first["loss"]

    cut = train.train(_options(tmp_path / "cut", "--steps", "24", "--minutes", "0"))
    assert cut.step == 1
    resumed = train.train(_options(tmp_path / "cut", "--steps", "24"))
    assert resumed.step == 24
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, resumed.model.state_dict()[name], atol=1e-5), name

    loaded = files.load(tmp_path / "whole/out").state_dict()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(loaded[name], tensor.bfloat16().float()), name


def test_packed_documents_begin_where_their_numbers_change_and_at_each_row() -> None:
    numbers = np.array([[0, 0, 1, 1, 2], [0, 1, 1, 1, 1]], np.int16)
    starts, longest = train.packed(numbers)
    assert starts[:6].tolist() == [0, 2, 4, 5, 6, 10]
    assert (starts[6:] == 10).all()
    assert starts.shape == (2 * train.MAX_DOCUMENTS + 1,)
    assert longest == 5


def test_documents_do_not_see_each_other() -> None:
    torch.manual_seed(2)
    q, k, v = (torch.randn(1, 6, heads, 64) for heads in (2, 1, 1))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1]])
    both = attention(q, k, v, document_mask(documents))
    alone = attention(q[:, 3:], k[:, 3:], v[:, 3:], None)
    assert torch.allclose(both[:, 3:], alone, atol=1e-5)
    assert not torch.allclose(attention(q, k, v, None)[:, 3:], alone, atol=1e-2)


@pytest.mark.parametrize(("step", "part"), [(0, 0.01), (99, 1.0), (500, 1.0), (1000, 0.0)])
def test_the_rate_warms_up_stays_and_falls_to_nothing(step: int, part: float) -> None:
    assert train.rate(step, 1000) == pytest.approx(part)


def test_the_full_model_has_the_size_that_the_card_states() -> None:
    count = sum(parameter.numel() for parameter in DemoModel(Shape()).parameters())
    assert 8e6 < count < 12e6


def test_rounding_stays_within_half_a_step() -> None:
    torch.manual_seed(1)
    weight = torch.randn(8, 256)
    groups = weight.view(8, 2, 128)
    step = (groups.amax(-1).clamp(min=0) - groups.amin(-1).clamp(max=0)) / 15
    error = (rounded_weight(weight) - weight).abs().view(8, 2, 128)
    assert (error <= step[..., None] * 1.01).all()
    vector = torch.randn(2, 3, 5, 64)
    width = (vector.amax(-1) - vector.amin(-1)) / 15
    assert ((rounded_kv(vector) - vector).abs() <= width[..., None] * 0.51).all()


def test_muons_update_has_singular_values_near_one() -> None:
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 64, 32)).float())
    assert (values > 0.5).all()
    assert (values < 1.5).all()
