"""Prompts encoded once and kept: play then needs no text encoder.

A safetensors file: one tensor u d per prompt (only the tokens that it has), texts in the header.

    save_prompts(path, {"a red ball": embedding}, encoder="google/umt5-xxl")
    prompts = load_prompts(path)
    text = padded(prompts["a red ball"], 512)      # 512 d, zeros after the prompt, as Wan has it
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.system.limits import LARGEST_PROMPTS
from worldmodel.system.printable import shown

FORMAT = 1


def save_prompts(path: Path, embeddings: Mapping[str, Tensor], *, encoder: str) -> None:
    """Write embeddings u d by prompt, atomically; `encoder` says what made them."""
    for text, embedding in embeddings.items():
        _check(embedding, f"{path}: {shown(text)}")
    tensors = {_name(number): tensor for number, tensor in enumerate(embeddings.values())}
    header = {"format": FORMAT, "encoder": encoder, "prompts": list(embeddings)}
    save_tensors(path, tensors, header)


def load_prompts(path: Path) -> dict[str, Tensor]:
    """Embeddings u d by prompt, in the order in which they were saved."""
    tensors, header = load_tensors(path, LARGEST_PROMPTS)
    texts = header.get("prompts")
    if header.get("format") != FORMAT or not isinstance(texts, list):
        raise CheckpointError(
            f"{path}: not a file of prompts (format {shown(header.get('format'))}, expected "
            f"{FORMAT})"
        )
    names = [_name(number) for number in range(len(texts))]
    if sorted(tensors) != names or len(set(map(str, texts))) != len(texts):
        raise CheckpointError(
            f"{path}: {len(texts)} prompts in the header, {len(tensors)} embeddings; expected one "
            "for each, no prompt twice"
        )
    embeddings = {str(text): tensors[name] for text, name in zip(texts, names, strict=True)}
    for text, embedding in embeddings.items():
        _check(embedding, f"{path}: {shown(text)}")
    if len({embedding.shape[1] for embedding in embeddings.values()}) > 1:
        raise CheckpointError(f"{path}: its embeddings differ in width; they are of two encoders")
    return embeddings


def padded(embedding: Tensor, length: int) -> Tensor:
    """An embedding u d with zeros after the prompt: length d."""
    if len(embedding) > length:
        raise CheckpointError(f"an embedding of {len(embedding)} tokens, expected at most {length}")
    return torch.cat((embedding, embedding.new_zeros(length - len(embedding), embedding.shape[1])))


def _name(number: int) -> str:
    return f"prompt.{number:05}"


def _check(embedding: Tensor, where: str) -> None:
    """Refuse what no encoder gives."""
    right = embedding.ndim == 2 and embedding.numel() and embedding.is_floating_point()
    if not right or not bool(torch.isfinite(embedding).all()):
        raise CheckpointError(
            f"{where}: expected a finite embedding of tokens x width, found "
            f"{' x '.join(map(str, embedding.shape))} {embedding.dtype}"
        )
