"""`best`: the combination of methods that won where it was tried (`lmrun/quant/README.md`).

A fixed policy: GPTQ in searched ranges, whose scales are fitted, then learned rounding, for longer
than `autoround` learns; no channel scales and no rotation (which changes the head of a tied model,
so that it is a choice of the recipe).
"""

from lmrun.quant.autoround import PRESETS, Preset
from lmrun.stages.learning import LearnedRounding

METHOD = LearnedRounding(
    {"light": PRESETS["best"], "best": Preset(iterations=300, tokens=1024, rate=0.5)},
)
