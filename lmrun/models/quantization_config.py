"""`quantization_config` of a config.json, by whichever tool wrote it, into a `CodeFormat`."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from lmrun.errors import PlanError
from lmrun.models.code_format import CodeFormat, Packing

KEYS = ("quantization_config", "compression_config")
"""Where config.json may hold it; the second is what compressed-tensors wrote at first."""
LEGAL = (
    "Supported: awq (gemm, 4 bits), gptq (formats gptq and gptq_v2, 4 or 8 bits),"
    " compressed-tensors (pack-quantized, int-quantized), auto-round (auto_gptq, auto_awq) and"
    " smooth_quant (int8)."
)
GPTQ_FORMATS = ("gptq", "gptq_v2")
AUTO_ROUND = {
    "auto_round:auto_gptq": (Packing.gptq, True),
    "auto_round:gptqmodel": (Packing.gptq, False),
    "auto_round": (Packing.gptq, False),
    "auto_round:auto_awq": (Packing.awq, False),
}
"""`packing_format` → tensors, and whether zero points are stored less one."""
FLOAT_BITS = 16
"""An override with so many bits or more leaves a linear as it is."""
REORDERED = ("group", "dynamic")
"""`actorder` of groups that are not consecutive; `weight` and `static` change nothing in a file."""


def code_format(config: Mapping[str, Any], file: str) -> CodeFormat | None:
    """How config.json says that the linears are stored; None where they are floats.

    Which linears are quantized and which are kept (`modules_to_not_convert`, `ignore`, `targets`)
    is told by the tensors themselves, so such lists are not read. ``file`` begins the messages.
    Raises `PlanError` with what is legal for everything else.
    """
    for key in KEYS:
        fields = config.get(key)
        if fields is not None:
            return _Reader(fields, f"{file}: {key}").format()
    return None


class _Reader:
    """Typed access to the fields; each refusal names the file and what is legal."""

    def __init__(self, fields: Any, where: str) -> None:  # noqa: ANN401 - JSON not yet checked
        if not isinstance(fields, dict):
            raise PlanError(f"{where}: expected an object, got {fields!r}.")
        self._fields: Mapping[str, Any] = fields
        self._where = where
        self._method = str(fields.get("quant_method"))

    def format(self) -> CodeFormat:
        """The format that the method's own reader finds."""
        readers = {
            "awq": self._awq,
            "gptq": self._gptq,
            "compressed-tensors": self._compressed_tensors,
            "auto-round": self._auto_round,
            "intel/auto-round": self._auto_round,
            "smooth_quant": self._smooth_quant,
        }
        if self._method not in readers:
            raise PlanError(f"{self._where}: quant_method {self._method} is not built yet. {LEGAL}")
        return readers[self._method]()

    def _refuse(self, what: str) -> NoReturn:
        raise PlanError(f"{self._where}: {self._method} with {what} is not built yet. {LEGAL}")

    def _must_be(self, key: str, *legal: object, fields: Mapping[str, Any] | None = None) -> None:
        """Refuses a key that is there with another value; None counts as absent."""
        value = (self._fields if fields is None else fields).get(key)
        if value is not None and value not in legal:
            self._refuse(f"{key} {value}")

    def _bits(self, *legal: int) -> int:
        bits = self._fields.get("bits", 4)
        if isinstance(bits, bool) or bits not in legal:
            self._refuse(f"bits {bits}")
        return int(bits)

    def _group_size(self, value: Any) -> int:  # noqa: ANN401 - JSON not yet checked
        """0 for a whole row, which files call -1."""
        if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != -1):
            raise PlanError(
                f"{self._where}: group_size: expected a positive integer or -1, got {value!r}."
            )
        return max(value, 0)

    def _flag(self, key: str, default: bool) -> bool:
        value = self._fields.get(key, default)
        if not isinstance(value, bool):
            raise PlanError(f"{self._where}: {key}: expected true or false, got {value!r}.")
        return value

    def _awq(self) -> CodeFormat:
        bits = self._bits(4)
        version = str(self._fields.get("version", "gemm"))
        if version.lower() != "gemm":
            self._refuse(f"version {version}")
        for key in ("checkpoint_format", "format"):
            self._must_be(key, "gemm")
        self._must_be("lm_head", False)
        self._check_overrides("dynamic")
        group_size = self._group_size(self._fields.get("group_size", 128))
        is_symmetric = not self._flag("zero_point", True)
        return CodeFormat("awq", Packing.awq, bits, group_size, is_symmetric)

    def _gptq(self) -> CodeFormat:
        bits = self._bits(4, 8)
        for key in ("checkpoint_format", "format"):
            self._must_be(key, *GPTQ_FORMATS)
        self._must_be("is_marlin_format", False)
        self._must_be("pack_dtype", "int32")
        self._must_be("lm_head", False)
        self._check_overrides("dynamic")
        written = self._fields.get("checkpoint_format") or self._fields.get("format")
        return CodeFormat(
            "gptq",
            Packing.gptq,
            bits,
            self._group_size(self._fields.get("group_size", 128)),
            self._flag("sym", True),
            zeros_less_one=written != "gptq_v2",
            act_order=self._flag("desc_act", False),
        )

    def _auto_round(self) -> CodeFormat:
        packing_format = self._fields.get("packing_format")
        if packing_format not in AUTO_ROUND:
            self._refuse(f"packing_format {packing_format}")
        packing, zeros_less_one = AUTO_ROUND[packing_format]
        bits = self._bits(4) if packing is Packing.awq else self._bits(4, 8)
        self._must_be("data_type", "int")
        self._must_be("act_bits", 16, 32)
        self._must_be("super_bits")
        self._must_be("rotation_config", {})
        self._check_overrides("extra_config")
        return CodeFormat(
            "auto-round",
            packing,
            bits,
            self._group_size(self._fields.get("group_size", 128)),
            self._flag("sym", True),
            zeros_less_one=zeros_less_one,
        )

    def _smooth_quant(self) -> CodeFormat:
        self._must_be("quant_dtype", "int8", "torch.int8")
        return CodeFormat("smooth_quant", Packing.smooth_quant, 8, 0, True, 8)

    def _check_overrides(self, key: str) -> None:
        """Settings of modules: legal where they keep one as it is, or repeat the rest."""
        overrides = self._fields.get(key) or {}
        if not isinstance(overrides, dict):
            raise PlanError(f"{self._where}: {key}: expected an object, got {overrides!r}.")
        for name, settings in overrides.items():
            if not settings or str(name).startswith("-:"):
                continue
            if not isinstance(settings, dict):
                raise PlanError(f"{self._where}: {key}: {name}: expected an object.")
            bits = settings.get("bits")
            if isinstance(bits, int) and bits >= FLOAT_BITS:
                continue
            for setting in ("bits", "group_size", "sym", "desc_act", "data_type"):
                value = settings.get(setting)
                if value is not None and value != self._fields.get(setting):
                    self._refuse(f"{setting} {value} for {name} ({key}: several schemes)")

    def _compressed_tensors(self) -> CodeFormat:
        fields = self._fields
        self._must_be("quantization_status", "compressed", "frozen")
        self._must_be("kv_cache_scheme", {})
        self._must_be("transform_config", {})
        sparsity = fields.get("sparsity_config")
        if sparsity:
            self._must_be("format", "dense", fields=sparsity)
        found = set(self._config_groups())
        if len(found) != 1:
            self._refuse(f"{len(found)} schemes in config_groups")
        return found.pop()

    def _config_groups(self) -> Iterator[CodeFormat]:
        groups = self._fields.get("config_groups")
        if not isinstance(groups, dict) or not all(
            isinstance(one, dict) for one in groups.values()
        ):
            raise PlanError(f"{self._where}: config_groups: expected an object, got {groups!r}.")
        for group in groups.values():
            written = group.get("format") or self._fields.get("format")
            if written not in (Packing.pack_quantized, Packing.int_quantized):
                self._refuse(f"format {written}")
            yield self._scheme(Packing(written), group)

    def _scheme(self, packing: Packing, group: Mapping[str, Any]) -> CodeFormat:
        weights = group.get("weights")
        if not isinstance(weights, dict):
            raise PlanError(f"{self._where}: weights: expected an object, got {weights!r}.")
        self._must_be("output_activations", {}, fields=group)
        self._must_be("type", "int", fields=weights)
        bits = weights.get("num_bits", 8)
        if bits not in ((8,) if packing is Packing.int_quantized else (4, 8)):
            self._refuse(f"{packing} of {bits} bits")
        activation_bits = self._activation_bits(group.get("input_activations"))
        is_symmetric = bool(weights.get("symmetric", True))
        group_size = self._strategy(packing, weights, is_symmetric)
        if activation_bits == 8 and (bits != 8 or group_size or not is_symmetric):
            self._refuse(f"8-bit activations beside weights of {bits} bits, not symmetric by row")
        order = weights.get("actorder")
        return CodeFormat(
            "compressed-tensors",
            packing,
            bits,
            group_size,
            is_symmetric,
            activation_bits,
            act_order=(order is True or order in REORDERED) and group_size > 0,
        )

    def _strategy(self, packing: Packing, weights: Mapping[str, Any], is_symmetric: bool) -> int:
        """Group size that the strategy amounts to; 0 for a whole row or matrix."""
        size = weights.get("group_size")
        strategy = weights.get("strategy")
        if strategy is None:
            strategy = "tensor" if size is None else "channel" if size == -1 else "group"
        if strategy == "group":
            return self._group_size(size)
        is_tensor = strategy == "tensor" and packing is Packing.int_quantized and is_symmetric
        if strategy != "channel" and not is_tensor:
            self._refuse(f"strategy {strategy}")
        return 0

    def _activation_bits(self, fields: Any) -> int:  # noqa: ANN401 - JSON not yet checked
        if fields is None:
            return 16
        if not isinstance(fields, dict):
            raise PlanError(f"{self._where}: input_activations: expected an object.")
        self._must_be("type", "int", fields=fields)
        for key, default, only in (
            ("num_bits", 8, 8),
            ("symmetric", True, True),
            ("dynamic", False, True),
            ("strategy", "token", "token"),
        ):
            value = fields.get(key, default)
            if value != only:
                self._refuse(f"input_activations of {key} {value}")
        return 8
