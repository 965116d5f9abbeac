"""What lmrun knows about a model from its ``config.json`` alone."""

from dataclasses import dataclass

TensorShapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding: base and scaling as ``config.json`` gives them."""

    kind: str
    """`default`, `linear` or `llama3`."""
    theta: float
    factor: float = 1.0
    """`linear` and `llama3` only."""
    low_freq_factor: float = 1.0
    """`llama3` only, as are the two below."""
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True)
class LinearSpec:
    """One linear of the decoder: y = x · wᵀ with w [out_features, in_features]."""

    name: str
    """Name under ``model.``, such as `layers.0.mlp.down_proj`; `quant.skip` uses it."""
    layer: int
    role: str
    """`q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj` or `down_proj`."""
    in_features: int
    out_features: int
    has_bias: bool

    @property
    def prefix(self) -> str:
        """Tensor names in the checkpoint are this plus `.weight`, `.bias`, `.qweight`, …"""
        return f"model.{self.name}"


@dataclass(frozen=True)
class ModelSpec:
    """Dimensions and flags of a decoder. Sizes are counts of features, heads, layers or tokens."""

    architecture: str
    """The entry of the registry: `LlamaForCausalLM`, …"""
    model_type: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    """Longest context: `max_position_embeddings`, or the sliding window where that is shorter
    (within the window sliding and full attention are the same)."""
    rms_norm_eps: float
    tie_word_embeddings: bool
    qkv_bias: bool
    """q, k and v have biases; no other linear ever has."""
    qk_norm: bool
    """RMS norm of each query and key head before RoPE."""
    rope: RopeSpec
    dtype: str
    """`F32`, `F16` or `BF16`: what config.json says; the tensors may differ
    (`Checkpoint.weight_dtype`)."""
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    """From generation_config.json where the folder has one, else config.json."""

    @property
    def attention_scale(self) -> float:
        """Factor of q · k."""
        return float(self.head_dim**-0.5)

    @property
    def linears(self) -> tuple[LinearSpec, ...]:
        """The decoder's linears, layer by layer, in the order q k v o gate up down."""
        return tuple(linear for layer in range(self.num_layers) for linear in self.layer(layer))

    def layer(self, index: int) -> tuple[LinearSpec, ...]:
        """The seven linears of a layer, in the order q k v o gate up down."""
        hidden, ffn = self.hidden_size, self.intermediate_size
        q_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        rows = (
            ("self_attn", "q_proj", hidden, q_size, self.qkv_bias),
            ("self_attn", "k_proj", hidden, kv_size, self.qkv_bias),
            ("self_attn", "v_proj", hidden, kv_size, self.qkv_bias),
            ("self_attn", "o_proj", q_size, hidden, False),
            ("mlp", "gate_proj", hidden, ffn, False),
            ("mlp", "up_proj", hidden, ffn, False),
            ("mlp", "down_proj", ffn, hidden, False),
        )
        return tuple(
            LinearSpec(f"layers.{index}.{block}.{role}", index, role, n_in, n_out, bias)
            for block, role, n_in, n_out, bias in rows
        )

    def other_tensors(self) -> TensorShapes:
        """Shapes of the tensors that are no linear: embeddings, norms and an untied head."""
        hidden = self.hidden_size
        shapes: TensorShapes = {"model.embed_tokens.weight": (self.vocab_size, hidden)}
        for index in range(self.num_layers):
            layer = f"model.layers.{index}"
            shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
            shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
            if self.qk_norm:
                shapes[f"{layer}.self_attn.q_norm.weight"] = (self.head_dim,)
                shapes[f"{layer}.self_attn.k_norm.weight"] = (self.head_dim,)
        shapes["model.norm.weight"] = (hidden,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, hidden)
        return shapes

    def float_tensors(self) -> TensorShapes:
        """Shapes of every tensor of the checkpoint where no linear is quantized."""
        shapes = self.other_tensors()
        for linear in self.linears:
            shapes[f"{linear.prefix}.weight"] = (linear.out_features, linear.in_features)
            if linear.has_bias:
                shapes[f"{linear.prefix}.bias"] = (linear.out_features,)
        return shapes

    def num_parameters(self) -> int:
        """Parameters, a tied matrix counted once."""
        total = 0
        for shape in self.float_tensors().values():
            size = 1
            for length in shape:
                size *= length
            total += size
        return total
