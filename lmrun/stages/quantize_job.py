"""What a recipe asks of quantize: settings, method, format, where weights and text come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from lmrun.config import RunConfig
from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.code_format import CodeFormat
from lmrun.models.registry import CONFIG_FILE, read_json
from lmrun.models.safetensors_header import read_header
from lmrun.models.spec import ModelSpec
from lmrun.quant import combinations
from lmrun.quant.formats import registry
from lmrun.quant.weight import Scheme
from lmrun.stages import calibrate, tensor_files
from lmrun.stages.computing import stream_settings
from lmrun.stages.context import StageContext
from lmrun.stages.layer_source import CheckpointSource, LayerSource
from lmrun.stages.layer_stream import StreamSettings
from lmrun.stages.methods import METHODS
from lmrun.stages.quantizing import LayerMethod, Needs, QuantSettings
from lmrun.stages.rotating import RotatedSource

ROTATION_SEED = 0


@dataclass(frozen=True)
class Job:
    """What a recipe asks of the stage, and how it is done."""

    checkpoint: Checkpoint
    source: LayerSource
    settings: QuantSettings
    form: CodeFormat
    method: LayerMethod
    needs: Needs
    token_ids: Tensor | None
    """[sequences, tokens]; None where no text is needed."""
    stream: StreamSettings
    config: Mapping[str, Any]
    """config.json of the model as the source gives it."""

    @property
    def spec(self) -> ModelSpec:
        """The model as it is written."""
        return self.source.spec


def of(context: StageContext) -> Job:
    """What the recipe of a stage asks for."""
    checkpoint = Checkpoint.open(context.checkpoint)
    run_config = msgspec.convert(context.plan.config, RunConfig)
    settings, form = _settings(run_config, checkpoint.spec)
    source: LayerSource = CheckpointSource(checkpoint)
    config = read_json(checkpoint.path / CONFIG_FILE)
    if run_config.quant.rotate:
        rotated = RotatedSource.of(source, ROTATION_SEED)
        source, config = rotated, rotated.config(config)
    method = METHODS[settings.method]
    needs = method.needs(settings)
    calibration = context.inputs.get("calibrate")
    token_ids = None
    if not needs.is_blind:
        if calibration is None:
            raise StageError(
                f"quantize: {settings.method} needs the artifact of calibrate, got none."
            )
        entries = read_header(calibration / calibrate.FILE_NAME)
        token_ids = torch.from_numpy(tensor_files.read(entries[calibrate.TOKEN_IDS]))
    stream = replace(
        stream_settings(context, source.spec),
        propagate=needs.propagate,
        keep_inputs=needs.keep_inputs,
    )
    return Job(checkpoint, source, settings, form, method, needs, token_ids, stream, config)


def _settings(run_config: RunConfig, spec: ModelSpec) -> tuple[QuantSettings, CodeFormat]:
    quant = run_config.quant
    resolved = combinations.resolved(run_config)
    scheme = Scheme(quant.bits, quant.group_size, quant.symmetric)
    form = registry.choose(
        resolved["quant.format"],
        quant.bits,
        quant.group_size,
        symmetric=quant.symmetric,
        activation_bits=quant.activation_bits,
    )
    settings = QuantSettings(
        method=quant.method.value,
        scheme=scheme,
        skip=combinations.skipped(quant.skip, spec),
        activation_bits=quant.activation_bits,
        mse=resolved["quant.range"] == "mse",
        act_order=quant.act_order,
        damping=quant.damping,
        alpha=quant.alpha,
        preset=quant.preset.value,
    )
    return settings, form
