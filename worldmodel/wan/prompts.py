"""Embeddings of prompts in a file, so that play needs no text encoder.

A safetensors file: tensors `embeddings.0`, `embeddings.1`, … (tokens x channels, padding left out)
and, in its header, the `texts` that they stand for.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.checkpoint import CheckpointError, load_tensors
from worldmodel.wan.store import write_tensors


def save_prompts(path: Path, embeddings: Mapping[str, Tensor]) -> str:
    """Write embeddings u c by their texts, in bfloat16 and without padding; returns the sha256."""
    tensors = {f"embeddings.{i}": _trimmed(e) for i, e in enumerate(embeddings.values())}
    return write_tensors(path, tensors, {"texts": list(embeddings)}, torch.bfloat16)


def load_prompts(path: Path) -> dict[str, Tensor]:
    """Embeddings u c by their texts."""
    tensors, header = load_tensors(path)
    texts = header.get("texts")
    if not isinstance(texts, list) or len(texts) != len(tensors):
        raise CheckpointError(
            f"{path}: its header should name the text of each of its {len(tensors)} embeddings"
        )
    try:
        return {str(text): tensors[f"embeddings.{i}"] for i, text in enumerate(texts)}
    except KeyError as error:
        raise CheckpointError(f"{path}: {error.args[0]} is missing") from error


def padded(embedding: Tensor, tokens: int) -> Tensor:
    """Embedding u c -> 1 tokens c, nought after its end, as training showed it."""
    out = embedding.new_zeros(1, tokens, embedding.shape[1])
    out[0, : len(embedding)] = embedding[:tokens]
    return out


def _trimmed(embedding: Tensor) -> Tensor:
    used = embedding.ne(0).any(dim=1).nonzero()
    return embedding[: int(used[-1]) + 1 if len(used) else 1]
