"""The tensors of Wan's file of CLIP, by name and shape."""

from worldmodel.wan.image_encoder import ImageEncoderConfig

Shapes = dict[str, tuple[int, ...]]


def released_shapes(config: ImageEncoderConfig, layers: int) -> Shapes:
    """Of the half that sees, up to what lies behind the last of so many layers."""
    d, hidden, tokens = config.width, config.feed_forward, 1 + (config.side // config.patch) ** 2
    shapes: Shapes = {
        "cls_embedding": (1, 1, d),
        "pos_embedding": (1, tokens, d),
        "patch_embedding.weight": (d, 3, config.patch, config.patch),
        "pre_norm.weight": (d,),
        "pre_norm.bias": (d,),
    }
    linear = {
        "attn.to_qkv": (3 * d, d),
        "attn.proj": (d, d),
        "mlp.0": (hidden, d),
        "mlp.2": (d, hidden),
    }
    for layer in range(layers):
        start = f"transformer.{layer}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{start}.{norm}.{part}": (d,) for part in ("weight", "bias")}
        for name, (out, into) in linear.items():
            shapes |= {f"{start}.{name}.weight": (out, into), f"{start}.{name}.bias": (out,)}
    return {f"visual.{name}": shape for name, shape in shapes.items()}
