"""Prompts to embeddings: the UMT5-XXL encoder (arXiv 2304.09151) that Wan's transformers listen to.

    embeddings = encode_prompts(["a red ball"], weights, tokenizer, torch.device("cuda"))

Needs the extra `worldmodel[wan]`, 11 GB of weights on disk and, at any time, the memory of one of
24 blocks (0.8 GB): weights stay mapped and visit the device one block after the other. Whoever
plays with prompts that were encoded before (`prompts.py`) needs none of this.
"""

import html
import importlib
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from worldmodel.config import UserError, require_at_most, require_positive
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.files import check_file
from worldmodel.system.limits import LARGEST_TOKENIZER, LONGEST_SHOWN
from worldmodel.wan.weight_files import load_strict, read_tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "google/umt5-xxl"
PLACES = ("tokenizer.json", f"{TOKENIZER}/tokenizer.json", "tokenizer/tokenizer.json")
BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """Sizes of the prompt encoder."""

    vocabulary: int
    width: int
    head_width: int
    heads: int
    feed_forward: int
    layers: int
    longest: int  # tokens of a prompt, its end included; more are cut off

    def __post_init__(self) -> None:
        require_positive(self, "vocabulary", "width", "head_width", "heads", "feed_forward")
        require_positive(self, "layers", "longest")
        require_at_most(self, 1 << 22, "vocabulary")
        require_at_most(self, 1 << 16, "width", "head_width", "heads", "feed_forward")
        require_at_most(self, 1024, "layers")


UMT5_XXL = TextConfig(
    vocabulary=256384,
    width=4096,
    head_width=64,
    heads=64,
    feed_forward=10240,
    layers=24,
    longest=512,
)


def encode_prompts(
    prompts: Sequence[str],
    weights: Path,
    tokenizer: Path | None,
    device: torch.device,
    config: TextConfig | None = None,
) -> list[Tensor]:
    """One embedding u d (fp32, on the CPU) per prompt; nothing stays loaded afterwards.

    Without a config the encoder has the sizes of its tensors.
    """
    config = config or text_config_of(read_tensors(weights), str(weights))
    words = load_tokenizer(tokenizer, config)
    encoder = load_text_encoder(weights, config)
    return [embed(encoder, words.encode(clean(text)).ids, device) for text in prompts]


def clean(text: str) -> str:
    """A prompt as the models saw it in training: repaired, without HTML escapes, evenly spaced."""
    repaired = html.unescape(html.unescape(import_extra("ftfy").fix_text(text)))
    return re.sub(r"\s+", " ", repaired).strip()


def load_tokenizer(path: Path | None, config: TextConfig) -> "Tokenizer":
    """The tokenizer from `tokenizer.json` at or below `path`, or from Hugging Face's cache.

    Only without a path and with nothing in the cache is it downloaded (17 MB).
    """
    tokenizers = import_extra("tokenizers")
    file = _find_tokenizer(path)
    check_file(file, LARGEST_TOKENIZER)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more special
        reason = str(error)[:LONGEST_SHOWN]
        raise UserError(f"{file}: not a tokenizer ({reason}); copy or download it again") from error
    if tokenizer.get_vocab_size() > config.vocabulary:
        raise UserError(
            f"{file}: a tokenizer of {tokenizer.get_vocab_size()} words, the encoder knows "
            f"{config.vocabulary}; use the one of {TOKENIZER}"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.longest)
    return tokenizer


def beside(weights: Path) -> Path | None:
    """Where a tokenizer lies beside an encoder's weights: it is used before any other."""
    found = any((weights.parent / place).is_file() for place in PLACES)
    return weights.parent if found else None


def _find_tokenizer(path: Path | None) -> Path:
    if path is not None:
        for place in (path, *(path / place for place in PLACES)):
            if place.is_file():
                return place
        raise UserError(
            f"{path}: no tokenizer.json there, nor in {TOKENIZER} below it; copy it from "
            f"huggingface.co/{TOKENIZER}"
        )
    found = _from_hub(local_only=True)  # what is there already needs no network
    if isinstance(found, str):
        found = _from_hub(local_only=False)
    if isinstance(found, str):
        raise UserError(
            f"the tokenizer {TOKENIZER} is neither in Hugging Face's cache nor could it be "
            f"downloaded ({found}); pass the folder that holds its tokenizer.json"
        )
    return found


def _from_hub(*, local_only: bool) -> Path | str:
    """The file, or why there is none."""
    try:
        return Path(
            import_extra("huggingface_hub").hf_hub_download(
                TOKENIZER, "tokenizer.json", local_files_only=local_only
            )
        )
    except (OSError, ValueError, RuntimeError) as error:  # as its own errors and httpx2's are
        return str(error).splitlines()[0]


def text_encoder(config: TextConfig) -> nn.Module:
    """The encoder without weights, on the `meta` device."""
    transformers = import_extra("transformers")
    sizes = transformers.UMT5Config(
        vocab_size=config.vocabulary,
        d_model=config.width,
        d_kv=config.head_width,
        d_ff=config.feed_forward,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=0.0,
    )
    with torch.device("meta"):
        encoder: nn.Module = transformers.UMT5EncoderModel(sizes)
    return encoder.requires_grad_(requires_grad=False).eval()


def text_config_of(tensors: Mapping[str, Tensor], where: str) -> TextConfig:
    """The sizes that an encoder's tensors have; whether all of them fit is seen when they load."""
    first = "encoder.block.0.layer"
    named = transformers_names(tensors)
    try:
        vocabulary, width = named["shared.weight"].shape
        _, heads = named[f"{first}.0.SelfAttention.relative_attention_bias.weight"].shape
        inner = named[f"{first}.0.SelfAttention.q.weight"].shape[0]
        feed_forward = named[f"{first}.1.DenseReluDense.wo.weight"].shape[1]
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{where}: not the weights of a UMT5 encoder ({error}); expected "
            "models_t5_umt5-xxl-enc-bf16.pth of Wan2.1"
        ) from error
    blocks = {name.split(".")[2] for name in named if name.startswith("encoder.block.")}
    return TextConfig(
        vocabulary=vocabulary,
        width=width,
        head_width=inner // max(1, heads),
        heads=heads,
        feed_forward=feed_forward,
        layers=len(blocks),
        longest=UMT5_XXL.longest,
    )


def load_text_encoder(weights: Path, config: TextConfig) -> nn.Module:
    """The encoder in Wan's or in transformers' layout, its weights mapped from disk."""
    encoder = text_encoder(config)
    load_strict(encoder, transformers_names(read_tensors(weights)), str(weights))
    return encoder


def transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of either layout as `UMT5EncoderModel` calls them; names it does not know stay."""
    named = {transformers_name(name): tensor for name, tensor in tensors.items()}
    if "shared.weight" in named:  # one matrix under two names
        named.setdefault("encoder.embed_tokens.weight", named["shared.weight"])
    return named


def transformers_name(name: str) -> str:
    """What transformers calls the weight that Wan's `models_t5_umt5-xxl-enc-bf16.pth` calls so."""
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name):
        inner = BLOCK.get(match[2])
        return f"encoder.block.{match[1]}.{inner}.weight" if inner else name
    outside = {
        "token_embedding.weight": "shared.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    return outside.get(name, name)


@torch.no_grad()
def embed(encoder: Any, ids: Sequence[int], device: torch.device) -> Tensor:
    """Token numbers -> embedding u d, fp32 on the CPU; each block's weights visit in fp32.

    The prompt goes in without padding: the reference masks it, which gives the same numbers.
    """
    vectors = nn.functional.embedding(torch.tensor([list(ids)]), encoder.shared.weight)
    visitors = [_Visitor(device) for _ in range(len(encoder.encoder.block) + 1)]
    parts = [*encoder.encoder.block, encoder.encoder.final_layer_norm]
    hooks = []
    for part, visitor in zip(parts, visitors, strict=True):
        hooks.append(part.register_forward_pre_hook(visitor.arrive))
        hooks.append(part.register_forward_hook(visitor.leave))
    try:
        result = encoder(inputs_embeds=vectors.to(device, torch.float32)).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
        for visitor in visitors:
            visitor.leave()
    return result[0].cpu()


class _Visitor:
    """Brings a part's weights to a device in fp32 and puts the mapped ones back afterwards."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.home: list[tuple[nn.Parameter, Tensor]] = []

    def arrive(self, part: nn.Module, _inputs: object) -> None:
        """Before the part runs; no further where the program ends meanwhile."""
        if not threading.main_thread().is_alive():
            raise RuntimeError("the program ended while a text was encoded")
        for weight in part.parameters():
            self.home.append((weight, weight.data))
            weight.data = weight.data.to(self.device, torch.float32)

    def leave(self, *_: object) -> None:
        """After the part ran, or when it did not get there."""
        for weight, mapped in self.home:
            weight.data = mapped
        self.home.clear()


def import_extra(name: str) -> Any:
    """A package of the extra `[wan]`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"encoding a prompt or a picture needs {name}; install it with pip install "
            "'worldmodel[wan]', or play with those that were encoded before"
        ) from error
