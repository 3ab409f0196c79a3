"""What a file of weights is, from its tensors' names alone; the file's name says nothing."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from worldmodel.storage.checkpoint import CheckpointError

Kind = Literal[
    "transformer", "vae", "taehv", "prompts", "text encoder", "image encoder", "pictures"
]

# Names that only files of a kind hold together, in either layout.
SIGNS: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "transformer": (
        ("patch_embedding.weight", "blocks.0.self_attn.q.weight"),
        ("patch_embedding.weight", "blocks.0.attn1.to_q.weight"),
        ("patch_embedding.proj.weight", "blocks.0.attn1.to_q.weight"),
        ("patch_embedding.proj.weight", "blocks.0.to_q.weight"),
    ),
    "vae": (
        ("encoder.conv1.weight", "decoder.conv1.weight", "decoder.head.2.weight"),
        ("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"),
    ),
    "taehv": (("encoder.0.weight", "decoder.1.weight", "decoder.22.weight"),),
    "prompts": (("prompt.00000",),),
    "pictures": (("picture.00000.features", "picture.00000.latents"),),
    "image encoder": (
        ("visual.patch_embedding.weight", "visual.transformer.0.attn.to_qkv.weight"),
        (
            "vision_model.embeddings.patch_embedding.weight",
            "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        ),
    ),
    "text encoder": (
        ("token_embedding.weight", "blocks.0.attn.q.weight"),
        ("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"),
    ),
}


def recognise(tensors: Mapping[str, Tensor], where: str) -> Kind:
    """The kind of a file with these tensors; else an error that shows some of their names."""
    for kind, signs in SIGNS.items():
        if any(all(name in tensors for name in names) for names in signs):
            return kind
    some = ", ".join(list(tensors)[:4])
    raise CheckpointError(
        f"{where}: {len(tensors)} tensors of an unknown model ({some}, …); known are Wan 2.1 "
        "transformers and their students, the Wan VAE, TAEHV, CLIP's image encoder, embeddings of "
        "prompts and encoded pictures"
    )
