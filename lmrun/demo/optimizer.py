"""Muon for matrices (Jordan et al., 2024: momentum made orthogonal by Newton and Schulz)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(stack: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix of each of a stack [N, rows, columns], roughly."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = stack.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if is_tall else x
    return result


class Muon:
    """One momentum a matrix; matrices of one shape are stepped together."""

    def __init__(
        self, parameters: list[nn.Parameter], momentum: float = 0.95, weight_decay: float = 0.02
    ) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for parameter in parameters:
            self.groups.setdefault(tuple(parameter.shape), []).append(parameter)
        self.buffers = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update; ``lr`` is the size of a step of a square matrix."""
        for shape, group in self.groups.items():
            gradient = torch.stack([p.grad for p in group if p.grad is not None]).float()
            buffer = self.buffers[shape]
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(buffer, self.momentum)).float()
            scale = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(list[Tensor](group), 1 - lr * self.weight_decay)
            torch._foreach_add_(list[Tensor](group), list(update.unbind(0)), alpha=-scale)

    @torch.no_grad()
    def rounded(self, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Put a function of each matrix in its place; what was there, for `restore`."""
        kept = []
        for group in self.groups.values():
            stack = torch.stack(list(group))
            kept.append(stack)
            changed = function(stack.flatten(0, 1)).view_as(stack)
            torch._foreach_copy_(list[Tensor](group), list(changed.unbind(0)))
        return kept

    @torch.no_grad()
    def restore(self, kept: list[Tensor]) -> None:
        """Undo `rounded`; nothing where nothing was kept."""
        for group, stack in zip(self.groups.values(), kept, strict=False):
            torch._foreach_copy_(list[Tensor](group), list(stack.unbind(0)))

    def state_dict(self) -> dict[str, Any]:
        """The momenta."""
        return {"x".join(map(str, shape)): buffer for shape, buffer in self.buffers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put momenta back."""
        for shape, buffer in self.buffers.items():
            buffer.copy_(state["x".join(map(str, shape))])
