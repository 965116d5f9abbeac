"""Orthogonal matrices that spread outliers over all channels: randomized Hadamard. Arrays out.

QuaRot (Ashkboos et al., arXiv 2404.00456) and SpinQuant (Liu et al., arXiv 2405.16406) turn the
residual stream and the values of each head by such a matrix and fuse it into the weights around;
`lmrun/stages/rotating.py` does that. In turned weights no input channel stands out, so the range of
a group is not spent on a few of them.

A Hadamard matrix has entries ±1 and orthogonal rows. Sylvester's construction doubles the order;
Paley's two constructions give q + 1 for a prime q = 3 mod 4 and 2 (q + 1) for a prime q = 1 mod 4
(R. Paley, "On orthogonal matrices", 1933): 12, 20, 28, 36, 44, 60, 68 and so on. An order that
neither reaches by doublings (n = 2^k m, m odd, say 43) takes the QR factor of a seeded normal
matrix for its odd part.
"""

import torch
from torch import Tensor


def hadamard(n: int, seed: int) -> Tensor:
    """Randomized orthogonal matrix, float32 [n, n]: random signs times a normalized Hadamard
    matrix; the same for the same n and seed. Every entry is ±1/sqrt(n) where a construction
    reaches n. Raises `ValueError` where n is not positive."""
    if n < 1:
        raise ValueError(f"n={n}: expected a positive order.")
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
    doublings = _doublings(n)
    if doublings is None:
        odd = n & -n
        matrix, scale = _orthogonal(n // odd, generator), float(odd) ** -0.5
        order = odd
    else:
        order = 2**doublings
        matrix, scale = _base(n // order), float(n) ** -0.5
    turned = torch.kron(_sylvester(order), matrix) * scale
    randomized: Tensor = signs[:, None] * turned
    return randomized.float()


def _doublings(n: int) -> int | None:
    """How often a base of `_base` is doubled to n; None where no base divides it so. The smallest
    base wins."""
    found, doublings, rest = None, 0, n
    while True:
        if _is_base(rest):
            found = doublings
        if rest % 2:
            return found
        rest, doublings = rest // 2, doublings + 1


def _is_base(n: int) -> bool:
    return n == 1 or _is_first_kind(n) or _is_second_kind(n)


def _is_first_kind(n: int) -> bool:
    return n % 4 == 0 and _is_prime(n - 1)


def _is_second_kind(n: int) -> bool:
    return n % 4 == 0 and (n // 2 - 1) % 4 == 1 and _is_prime(n // 2 - 1)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))


def _sylvester(order: int) -> Tensor:
    matrix = torch.ones(1, 1, dtype=torch.float64)
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    while len(matrix) < order:
        matrix = torch.kron(two, matrix)
    return matrix


def _base(n: int) -> Tensor:
    """Paley's Hadamard matrix of order n, or [[1]]."""
    if n == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    is_first = _is_first_kind(n)
    q = n - 1 if is_first else n // 2 - 1
    bordered = torch.zeros(q + 1, q + 1, dtype=torch.float64)
    bordered[0, 1:] = 1
    bordered[1:, 0] = -1 if is_first else 1
    bordered[1:, 1:] = _jacobsthal(q)
    if is_first:  # skew: S Sᵀ = q I and S + Sᵀ = 0, so I + S is Hadamard
        return bordered + torch.eye(n, dtype=torch.float64)
    plus = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    minus = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    diagonal = torch.eye(q + 1, dtype=torch.float64)
    return torch.kron(bordered, plus) + torch.kron(diagonal, minus)


def _jacobsthal(q: int) -> Tensor:
    """[q, q]: 1 where i - j is a square modulo the prime q, -1 where it is not, 0 where it is 0."""
    character = -torch.ones(q, dtype=torch.float64)
    character[torch.arange(1, q).square() % q] = 1
    character[0] = 0
    places = torch.arange(q)
    return character[(places[:, None] - places[None, :]) % q]


def _orthogonal(n: int, generator: torch.Generator) -> Tensor:
    normal = torch.randn(n, n, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    signed: Tensor = (q * torch.where(r.diagonal() < 0, -1.0, 1.0)).contiguous()
    return signed
