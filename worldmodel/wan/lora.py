"""LoRA: a few small matrices are trained beside frozen large ones (arXiv 2106.09685).

    y = W x + (alpha / rank) B A x,    A normal, B zero: at first nothing is changed

    model = adapted(base, LoraConfig(rank=32, alpha=32.0))     # trains A, B and what `also` names
    save_lora(path, model)                                     # those alone
    weights = merged(model.state_dict(), model.lora)           # as if W had been trained

Weights keep their names; the small ones are called `….lora_a` (rank x in) and `….lora_b` (out x
rank), so the frozen part of a model is loaded as ever.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import ConfigError, build_config, require_positive
from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer import WanTransformer

A, B = "lora_a", "lora_b"
FORMAT = 1
EVERYTHING = (
    "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o",
    "cross_attn.q", "cross_attn.k", "cross_attn.v", "cross_attn.o",
    "ffn.0", "ffn.2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """What is trained where not everything is."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = EVERYTHING  # linear layers, by the ends of their names
    also: tuple[str, ...] = ()  # modules that are trained as they are, such as "self_attn.prope_o"

    def __post_init__(self) -> None:
        require_positive(self, "rank")
        if self.alpha <= 0 or not self.targets:
            raise ConfigError(
                f"alpha ({self.alpha}) must be above 0, targets {list(self.targets)} not empty"
            )

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """A linear layer and the small matrices beside it."""

    def __init__(self, inputs: int, outputs: int, config: LoraConfig, *, bias: bool) -> None:
        super().__init__(inputs, outputs, bias)
        self.scale = config.scale
        self.lora_a = nn.Parameter(torch.randn(config.rank, inputs) * inputs**-0.5)
        self.lora_b = nn.Parameter(torch.zeros(outputs, config.rank))

    def forward(self, x: Tensor) -> Tensor:
        """... in -> ... out."""
        beside = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * beside


class LoraTransformer(WanTransformer):
    """A Wan transformer of whose weights only some are trained."""

    def __init__(self, config: WanConfig, lora: LoraConfig) -> None:
        super().__init__(config)
        self.lora = lora
        self._put_beside()
        self.requires_grad_(requires_grad=False)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in self.trained)

    def alike(self) -> WanTransformer:
        """One of the same kind and sizes with weights of its own."""
        return LoraTransformer(self.config, self.lora)

    @property
    def trained(self) -> frozenset[str]:
        """Names of the weights that are trained; the rest is what it was."""
        return frozenset(name for name, _ in self.named_parameters() if is_trained(name, self.lora))

    def _put_beside(self) -> None:
        modules = dict(self.named_modules())
        chosen = [name for name in modules if _named(name, self.lora.targets)]
        for wanted in (*self.lora.targets, *self.lora.also):
            if not any(_named(name, (wanted,)) for name in modules):
                raise ConfigError(f"[lora] {wanted!r}: no module of the transformer is called that")
        for name in chosen:
            old, (place, _, last) = modules[name], name.rpartition(".")
            if not isinstance(old, nn.Linear):
                raise ConfigError(
                    f"[lora] targets: {name} is a {type(old).__name__}, not a linear layer"
                )
            sizes, has_bias = (old.in_features, old.out_features), old.bias is not None
            setattr(modules[place], last, LoraLinear(*sizes, self.lora, bias=has_bias))


def is_trained(name: str, lora: LoraConfig) -> bool:
    """Whether the weight of this name is trained."""
    return name.endswith((A, B)) or any(f".{module}." in f".{name}" for module in lora.also)


def _named(name: str, ends: tuple[str, ...]) -> bool:
    """Whether a module's name is, or ends in, one of `ends`."""
    return any(name == end or name.endswith(f".{end}") for end in ends)


def adapted(base: WanTransformer, lora: LoraConfig) -> LoraTransformer:
    """`base` with fresh small matrices beside its large ones, which it shares and no longer trains.

    The matrices are drawn from torch's own generator.
    """
    with torch.device("meta"):
        model = LoraTransformer(base.config, lora)
    weights = dict(base.state_dict())
    for name, parameter in model.named_parameters():
        if name.endswith(A):
            weights[name] = torch.randn(parameter.shape) * parameter.shape[1] ** -0.5
        elif name.endswith(B):
            weights[name] = torch.zeros(parameter.shape)
    dtype, device = base.dtype, base.device
    model.load_state_dict({k: v.to(device, dtype) for k, v in weights.items()}, assign=True)
    return model


def merged(tensors: Mapping[str, Tensor], lora: LoraConfig) -> dict[str, Tensor]:
    """Weights under their released names, the small matrices added into the large ones in fp32."""
    whole = {name: tensor for name, tensor in tensors.items() if not name.endswith((A, B))}
    for name in [name for name in tensors if name.endswith(A)]:
        place = name.removesuffix(A)
        weight = whole[f"{place}weight"]
        beside = tensors[f"{place}{B}"].float() @ tensors[name].float()
        whole[f"{place}weight"] = (weight.float() + lora.scale * beside).to(weight.dtype)
    return whole


def save_lora(path: Path, tensors: Mapping[str, Tensor], lora: LoraConfig) -> None:
    """Write what was trained and nothing else; `tensors` may hold the frozen weights too."""
    kept = {name: tensor for name, tensor in tensors.items() if is_trained(name, lora)}
    save_tensors(path, kept, {"format": FORMAT, "lora": asdict(lora)})


def load_lora(path: Path) -> tuple[dict[str, Tensor], LoraConfig]:
    """What `save_lora` has written."""
    tensors, header = load_tensors(path)
    if header.get("format") != FORMAT or not isinstance(header.get("lora"), dict):
        raise CheckpointError(f"{path}: no LoRA of this program; expected one that training wrote")
    return tensors, build_config(LoraConfig, header["lora"], str(path))
