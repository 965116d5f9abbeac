"""`quant.method` → how it quantizes a layer: the table."""

from collections.abc import Mapping

from lmrun.quant import autoround
from lmrun.stages import best, layer_quantizer
from lmrun.stages.learning import LearnedRounding
from lmrun.stages.quantizing import LayerMethod

METHODS: Mapping[str, LayerMethod] = {
    **layer_quantizer.METHODS,
    "autoround": LearnedRounding(autoround.PRESETS),
    "best": best.METHOD,
}
