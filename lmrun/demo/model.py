"""The demo model in plain PyTorch: a Llama with grouped queries and tied embeddings.

Parameter names and shapes are those of Hugging Face's `LlamaForCausalLM`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model, named as in config.json."""

    vocab_size: int = 4096
    hidden_size: int = 384
    intermediate_size: int = 384
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    def config(self) -> dict[str, Any]:
        """config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        }


class Norm(nn.Module):
    """RMSNorm, computed in fp32, given back in the type of its input."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] to the same."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


class Attention(nn.Module):
    """Causal attention within documents."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        queries = shape.num_attention_heads * shape.head_dim
        keys = shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Any, noisy: int) -> Tensor:  # noqa: ANN401
        """``mask``: what `attention` takes; the keys and values of the first ``noisy`` sequences
        are rounded as a 4-bit KV cache rounds them."""
        batch, length, _ = x.shape
        dim = self.shape.head_dim
        q = self.q_proj(x).view(batch, length, -1, dim)
        k = self.k_proj(x).view(batch, length, -1, dim)
        v = self.v_proj(x).view(batch, length, -1, dim)
        q, k = rotate(q, *rope), rotate(k, *rope)
        if noisy:
            k = torch.cat((rounded_kv(k[:noisy]), k[noisy:]))
            v = torch.cat((rounded_kv(v[:noisy]), v[noisy:]))
        return self.o_proj(attention(q, k, v, mask).flatten(-2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to the same."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Any, noisy: int) -> Tensor:  # noqa: ANN401
        """The residual stream, before and after."""
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, noisy)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Body(nn.Module):
    """Embedding, layers, last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)


class DemoModel(nn.Module):
    """The whole; the head is the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        angles = torch.outer(
            torch.arange(shape.max_position_embeddings, dtype=torch.float32),
            shape.rope_theta**-steps,
        )
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.initialize()

    def initialize(self) -> None:
        """Normal weights; what writes to the residual stream is smaller."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            scale = 0.02
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale /= math.sqrt(2 * self.shape.num_hidden_layers)
            nn.init.normal_(parameter, std=scale)

    def hidden(self, token_ids: Tensor, mask: Any, noisy: int = 0) -> Tensor:  # noqa: ANN401
        """The last hidden states [B, T, hidden] of token ids [B, T]."""
        length = token_ids.shape[1]
        cos, sin = self.cos, self.sin
        assert isinstance(cos, Tensor) and isinstance(sin, Tensor)
        rope = cos[:length, None], sin[:length, None]
        x = self.model.embed_tokens(token_ids)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        for layer in self.model.layers:
            x = layer(x, rope, mask, noisy)
        return self.model.norm(x)  # type: ignore[no-any-return]

    def logits(self, token_ids: Tensor, mask: Any) -> Tensor:  # noqa: ANN401
        """Logits [B, T, V]."""
        return F.linear(self.hidden(token_ids, mask), self.model.embed_tokens.weight)

    def forward(
        self,
        token_ids: Tensor,
        targets: Tensor,
        weights: Tensor,
        mask: Any,  # noqa: ANN401 - BlockMask, Tensor or None
        noisy: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean loss over all tokens, and the plain one over those of full weight."""
        x = self.hidden(token_ids, mask, noisy)
        logits = F.linear(x, self.model.embed_tokens.weight).flatten(0, 1)
        losses = F.cross_entropy(logits.float(), targets.flatten(), reduction="none")
        flat = weights.flatten()
        weighted = (losses * flat).sum() / flat.sum()
        full = (flat == 1.0).float()
        return weighted, (losses.detach() * full).sum() / full.sum().clamp(min=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, halves paired."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


def rounded_kv(x: Tensor) -> Tensor:
    """A vector of each head and token in 4 bits, asymmetric; the gradient passes unchanged."""
    low = x.detach().amin(-1, keepdim=True)
    step = (x.detach().amax(-1, keepdim=True) - low).clamp(min=1e-6) / 15
    codes = ((x.detach() - low) / step).round()
    return x + (codes * step + low - x).detach()


@torch.no_grad()
def rounded_weight(weight: Tensor, group_size: int = 128) -> Tensor:
    """A matrix [out, in] in 4 bits, asymmetric, in groups along a row."""
    groups = weight.view(weight.shape[0], -1, group_size)
    low = groups.amin(-1, keepdim=True).clamp(max=0)
    high = groups.amax(-1, keepdim=True).clamp(min=0)
    step = (high - low).clamp(min=1e-8) / 15
    zero = (-low / step).round()
    codes = ((groups / step).round() + zero).clamp(0, 15)
    return ((codes - zero) * step).view_as(weight)


class Packed(NamedTuple):
    """Documents end to end over all rows, for attention that reads each by itself."""

    starts: Tensor
    """int32: where each begins; the number of all tokens from there on."""
    longest: int


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Packed | Tensor | None) -> Tensor:
    """Attention of [B, T, H, D]; a tensor is a mask [B, 1, T, T], None is causal."""
    if isinstance(mask, Packed):
        return packed_attention(q, k, v, mask.starts, mask.longest)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
        attn_mask=mask, is_causal=mask is None, enable_gqa=True,
    )  # fmt: skip
    return out.transpose(1, 2)


def packed_attention(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int) -> Tensor:
    """Causal attention within documents, on a GPU, in half precision."""
    out = torch.ops.aten._flash_attention_forward(
        q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), starts, starts, longest, longest,
        0.0, True, False,
    )[0]  # fmt: skip
    assert isinstance(out, Tensor)
    return out.view_as(q)


def document_mask(documents: Tensor) -> Tensor:
    """The causal mask [B, 1, T, T] within documents; ``documents`` [B, T] numbers them."""
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return (documents[:, None, :, None] == documents[:, None, None, :]) & causal


def linears(model: DemoModel) -> list[nn.Parameter]:
    """The matrices that quantization rounds, which are those that Muon trains."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and "embed" not in name
    ]
