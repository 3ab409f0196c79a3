"""How `golden/` was made: the reference implementations, run on `numbers.weights` in fp32.

    python -m tests.wan.make_golden TAEHV_FOLDER WAN_FOLDER

Needs diffusers; TAEHV_FOLDER holds `taehv.py` of github.com/madebyollin/taehv (commit 1f14a56),
WAN_FOLDER holds `t5.py` and `tokenizers.py` of github.com/thu-ml/Causal-Forcing (`wan/modules`,
commit 1fc7bbc). No test runs this.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.wan import cases
from tests.wan.numbers import uniform, weights

GOLDEN = Path(__file__).with_name("golden")


def fill(model: nn.Module, gain: float) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights(shapes, gain))
    model.eval()


def vae() -> dict[str, Tensor]:
    diffusers = importlib.import_module("diffusers")
    model = diffusers.AutoencoderKLWan(
        base_dim=cases.VAE.width,
        z_dim=cases.VAE.latent_channels,
        dim_mult=list(cases.VAE.multipliers),
        num_res_blocks=cases.VAE.blocks,
        temperal_downsample=list(cases.VAE.time_halvings),
    )
    fill(model, cases.VAE_GAIN)
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1)
        for values in (model.config.latents_mean, model.config.latents_std)
    )
    encoded = model.encode(uniform(cases.VIDEO, 0)).latent_dist.mode()
    frames = model.decode(2 * uniform(cases.LATENTS, 0) * std + mean).sample
    return {"latents": (encoded - mean) / std, "frames": frames.clamp(-1, 1)}


def taehv(folder: str) -> dict[str, Tensor]:
    sys.path.insert(0, folder)
    model = importlib.import_module("taehv").TAEHV(checkpoint_path=None)
    fill(model, cases.TAEHV_GAIN)
    video = (uniform(cases.VIDEO, 0) + 1) / 2
    latents = model.encode_video(video.movedim(1, 2), show_progress_bar=False)
    frames = model.decode_video(
        2 * uniform(cases.LATENTS, 0).movedim(1, 2), show_progress_bar=False
    )
    return {"latents": latents.movedim(1, 2), "frames": frames.movedim(1, 2) * 2 - 1}


def text(folder: str) -> dict[str, Tensor]:
    sys.path.insert(0, str(Path(folder).parent))
    any_torch: Any = torch
    any_torch.cuda.current_device = lambda: "cpu"  # t5.py asks for it when imported
    t5 = importlib.import_module(f"{Path(folder).name}.t5")
    model = t5.T5Encoder(
        vocab=cases.TEXT.vocabulary,
        dim=cases.TEXT.width,
        dim_attn=cases.TEXT.heads * cases.TEXT.head_width,
        dim_ffn=cases.TEXT.feed_forward,
        num_heads=cases.TEXT.heads,
        num_layers=cases.TEXT.layers,
        num_buckets=32,
        shared_pos=False,
    )
    fill(model, cases.TEXT_GAIN)
    longest = cases.TEXT.longest
    ids, mask = (torch.zeros(len(cases.TOKENS), longest, dtype=torch.long) for _ in range(2))
    for row, count in enumerate(cases.TOKENS):
        ids[row, :count] = torch.arange(count) % (cases.TEXT.vocabulary - 1) + 1
        mask[row, :count] = 1
    hidden = model(ids, mask)
    return {f"prompt.{row}": hidden[row, :count] for row, count in enumerate(cases.TOKENS)}


@torch.no_grad()
def main(taehv_folder: str, wan_folder: str) -> None:
    versions = {"torch": str(torch.__version__)}
    for name in ("diffusers", "transformers"):
        versions[name] = importlib.import_module(name).__version__
    results = {"vae": vae(), "taehv": taehv(taehv_folder), "text": text(wan_folder)}
    for name, tensors in results.items():
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(whole, GOLDEN / f"{name}.safetensors", versions)


if __name__ == "__main__":
    main(*sys.argv[1:])
