"""What a network costs, counted while it runs on fake tensors: shapes and dtypes without numbers.

    with fake_tensors(), torch.no_grad():         # no memory, whatever the size
        model = WanTransformer(config)
        cost = count(lambda: model(...))

Operations are those of matrix products, convolutions and attention; a multiply-add counts as two.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Shape = Sequence[int]


def _attention(q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return int(flop_counter.sdpa_flop_count(q, k, v))


def _attention_backward(
    gradient: Shape, q: Shape, k: Shape, v: Shape, *_: object, **__: object
) -> int:
    return int(flop_counter.sdpa_backward_flop_count(gradient, q, k, v))


# What torch counts on GPUs and not on CPUs, though the kernels do the same work.
ON_CPUS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run costs."""

    flops: int
    peak_bytes: int  # the most that tensors made in it took at once; no backend's scratch memory
    copies: int  # of these, weights in another dtype

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Cost(*(own + its for own, its in pairs))

    def __mul__(self, times: int) -> "Cost":
        return Cost(*(times * own for own in astuple(self)))


class _Counter(TorchDispatchMode):
    """Adds operations up, and the storages that were made under it and still live."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.weights = {id(storage) for storage in _storages(list(weights))}
        self.formulas = flop_counter.FlopCounterMode(custom_mapping=ON_CPUS).flop_registry
        self.flops = self.live = self.live_copies = 0
        self.peak = 0, 0  # bytes, and of these copies

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = {id(storage) for storage in _storages((args, kwargs))}
        result = func(*args, **kwargs)
        if formula := self.formulas.get(func._overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=result)
        is_copy = func is torch.ops.aten._to_copy.default and given & self.weights
        for storage in _storages(result):
            if id(storage) not in given:
                size = storage.nbytes()
                self._add(size, size if is_copy else 0)
                weakref.finalize(storage, self._add, -size, -size if is_copy else 0)
        return result

    def _add(self, size: int, copied: int) -> None:
        self.live, self.live_copies = self.live + size, self.live_copies + copied
        self.peak = max(self.peak, (self.live, self.live_copies))


def _storages(values: object) -> list[torch.UntypedStorage]:
    return [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, Tensor)]


def count(run: Callable[[], object], weights: Iterable[Tensor] = ()) -> Cost:
    """What a run costs, whether its tensors are fake or not; copies are those of `weights`."""
    with _Counter(weights) as counter:
        run()
    return Cost(counter.flops, *counter.peak)


@contextmanager
def fake_tensors() -> Iterator[None]:
    """What is made here has no numbers; attention is that of a kernel which keeps no scores."""
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        yield
