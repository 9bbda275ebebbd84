"""What landmarks say about each other: heat maps refined along chains of them.

After the Attentive Fashion Grammar Network (Wang et al., CVPR 2018): a bidirectional convolutional
recurrent layer passes messages along each chain, both ways. Which chains there are is data.

The paper does not say the widths, the kernel, nor how a landmark of several chains is put together.
Ours: h_t = ReLU(W * x_t + U * h_(t-1) + b) with x_t the map of the chain's t-th landmark, the same
from the other end, each with weights of its own, and y_t = V * h_t + V' * h'_t; a landmark's map
gains the mean of the y of all chains that it is in.

Shapes: maps ``(N, L, h, w)`` of ``L`` landmarks; ``K`` chains of up to ``T`` landmarks, ``D``
channels of a hidden state.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


class Grammar(nn.Module):
    """One layer: at each step all chains that go on, both ways, as one grouped convolution.

    Args:
        chains: each the numbers of its landmarks.
        number: L.
        dim: D.
        kernel: side of all kernels, odd.

    Attributes:
        steps: by step the (2 K_t,) landmarks of the K_t chains that are so long, the longest chains
            first, each forth and back.
        chains_of: (L,) in how many chains a landmark is, and 1 for one in none.
        enter: (2K D, 1, k, k) W, in the same order.
        hidden: (2K D, D, k, k) U.
        bias: (2K D,) b.
        leave: (2K, D, k, k) V.

    Raises:
        ValueError: an even kernel, or no channels.
    """

    chains_of: Tensor

    def __init__(
        self, chains: Sequence[Sequence[int]], number: int, dim: int = 16, kernel: int = 7
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0 or dim < 1:
            raise ValueError(
                "MODEL.RECOGNITION.LANDMARKS.GRAMMAR_KERNEL must be odd and GRAMMAR_DIM at least "
                f"1, got {kernel} and {dim}"
            )
        ordered = sorted(map(tuple, chains), key=len, reverse=True)
        both = [way for chain in ordered for way in (chain, chain[::-1])]
        self.steps = [[w[t] for w in both if len(w) > t] for t in range(len(ordered[0]))]
        counts = [max(sum(i in chain for chain in ordered), 1) for i in range(number)]
        self.register_buffer("chains_of", torch.tensor(counts), persistent=False)
        self.dim, self.padding, ways = dim, kernel // 2, len(both)
        self.enter = nn.Parameter(torch.empty(ways * dim, 1, kernel, kernel))
        self.hidden = nn.Parameter(torch.empty(ways * dim, dim, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(ways * dim))
        self.leave = nn.Parameter(torch.empty(ways, dim, kernel, kernel))
        for weight in (self.enter, self.hidden):
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        nn.init.normal_(self.leave, std=0.001)  # at first nearly the maps as they came

    def forward(self, maps: Tensor) -> Tensor:
        """(N, L, h, w) -> the same, refined."""
        hidden: Tensor | None = None
        said = torch.zeros_like(maps)
        for nodes in self.steps:
            ways, width = len(nodes), len(nodes) * self.dim
            state = self._convolve(maps[:, nodes], self.enter[:width], ways, self.bias[:width])
            if hidden is not None:
                state = state + self._convolve(hidden[:, :width], self.hidden[:width], ways)
            hidden = F.relu(state)
            messages = self._convolve(hidden, self.leave[:ways], ways).to(maps.dtype)
            said = said.index_add(1, torch.tensor(nodes, device=maps.device), messages)
        return maps + said / self.chains_of[:, None, None]

    def _convolve(self, x: Tensor, weight: Tensor, ways: int, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=self.padding, groups=ways)


def numbers(chains: Sequence[Sequence[str]], names: Sequence[str]) -> list[tuple[int, ...]]:
    """The landmarks' numbers of chains of their names.

    Raises:
        ValueError: a chain names no landmark, one of them twice, or fewer than two.
    """
    key = "MODEL.RECOGNITION.LANDMARKS.CHAINS"
    for chain in chains:
        if isinstance(chain, str) or len(chain) < 2 or len(set(chain)) < len(chain):
            raise ValueError(f"{key}: expected chains of two landmarks or more, got {chain!r}")
        unknown = [name for name in chain if name not in names]
        if unknown:
            raise ValueError(
                f"{key}: {list(chain)} names no landmark by {unknown[0]!r}; there are "
                f"{', '.join(names)}"
            )
    return [tuple(names.index(name) for name in chain) for chain in chains]
