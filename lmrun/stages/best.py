"""`best`: the combination of methods that won where it was tried (`lmrun/quant/README.md`)."""

from lmrun.quant import autoround
from lmrun.stages.layer_quantizer import Scales
from lmrun.stages.learning import LearnedRounding

METHOD = LearnedRounding(Scales.NONE, autoround.PRESETS)
