"""How `golden/matrix_game2.safetensors` was made: ForgeWM's code, on `numbers.weights` in fp32.

    python -m tests.wan.make_matrix_golden FOLDER

FOLDER holds github.com/asdfo123/ForgeWM (commit b0b06a6). Its code runs as it is, except for what
cannot run at this size or on a CPU: flash and flex attention, diffusers' base classes, the width
of the image encoder and the noise, which is ours. No test runs this.
"""

import importlib
import importlib.util
import sys
import types
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import flex_attention as flex

from tests.wan import matrix_cases as cases
from tests.wan.make_golden import GOLDEN, fill
from tests.wan.matrix_cases import MatrixCase
from tests.wan.numbers import weights

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # clip.py's


def attention(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """What flash attention computes: b t n e each."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def stub(name: str, **parts: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(parts)
    sys.modules[name] = module


def as_it_is(function: Any) -> Any:
    return function


def read_reference(folder: str) -> Any:
    """Its modules, able to run here."""
    sys.path.insert(0, folder)
    any_torch: Any = torch
    any_torch.cuda.current_device = lambda: "cpu"
    mixin = type("Mixin", (), {})
    stub("flash_attn", flash_attn_func=attention)
    stub("diffusers")
    stub("diffusers.loaders", FromOriginalModelMixin=mixin, PeftAdapterMixin=type("P", (), {}))
    stub(
        "diffusers.configuration_utils", ConfigMixin=type("C", (), {}), register_to_config=as_it_is
    )
    stub("diffusers.models")
    stub("diffusers.models.modeling_utils", ModelMixin=nn.Module)
    stub("wan.modules.clip", CLIPModel=None)
    stub("wan.modules.vae", _video_vae=None)
    parts: dict[str, Any] = {
        name: importlib.import_module(f"wan.modules.{name}")
        for name in ("model", "causal_model", "action_module", "attention")
    }
    pipelines = types.ModuleType("pipeline")
    pipelines.__path__ = [f"{folder}/pipeline"]
    sys.modules["pipeline"] = pipelines
    parts["pipeline"] = importlib.import_module("pipeline.causal_inference")
    parts["wrapper"] = importlib.import_module("utils.wan_wrapper")
    small = parts["model"].MLPProj
    for name in ("model", "causal_model"):
        parts[name].MLPProj = lambda _, width: small(cases.PICTURE_WIDTH, width)
    parts["model"].flash_attention = attention
    parts["causal_model"].attention = attention
    parts["causal_model"].flex_attention = flex.flex_attention
    parts["action_module"].flex_attention = flex.flex_attention
    return types.SimpleNamespace(**parts)


def model_of(reference: Any, case: MatrixCase, *, causal: bool) -> Any:
    """Their model of a case, with our numbers."""
    width = cases.ACTION_HEADS * cases.ACTION_HEAD_WIDTH
    action = {
        "mouse_dim_in": case.mouse,
        "keyboard_dim_in": case.keys,
        "hidden_size": cases.KEY_WIDTH,
        "img_hidden_size": cases.WIDTH,
        "keyboard_hidden_dim": width,
        "mouse_hidden_dim": width,
        "heads_num": cases.ACTION_HEADS,
        "enable_mouse": case.mouse > 0,
        "blocks": list(case.layers),
    }
    sizes: dict[str, Any] = {
        "model_type": "i2v",
        "in_dim": cases.MASK + 2 * cases.CHANNELS,
        "out_dim": cases.CHANNELS,
        "dim": cases.WIDTH,
        "ffn_dim": cases.FEED_FORWARD,
        "freq_dim": cases.TIME_FEATURES,
        "num_heads": cases.HEADS,
        "num_layers": cases.LAYERS,
        "action_config": action,
    }
    if causal:
        model = reference.causal_model.CausalWanModel(**sizes, local_attn_size=case.window)
        model.num_frame_per_block = cases.CHUNK
    else:
        model = reference.model.WanModel(**sizes)
    fill(model, cases.GAIN)
    return model.requires_grad_(requires_grad=False)


def told(case: MatrixCase) -> dict[str, Tensor]:
    """The conditions as the pipelines pass them on."""
    found = {
        "visual_context": case.features(),
        "cond_concat": case.picture(),
        "keyboard_condition": case.key_rows(),
    }
    mouse = case.mouse_rows()
    return found if mouse is None else {**found, "mouse_condition": mouse}


def generator_of(reference: Any, model: Any) -> Any:
    wrapper = reference.wrapper.WanDiffusionWrapper
    generator = wrapper.__new__(wrapper)
    nn.Module.__init__(generator)
    generator.model, generator.uniform_timestep = model, False
    generator.scheduler = reference.wrapper.FlowMatchScheduler(
        shift=5.0, sigma_min=0.0, extra_one_step=True
    )
    generator.scheduler.set_timesteps(1000, training=True)
    generator.post_init()
    return generator


def roll_out(reference: Any, case: MatrixCase) -> Tensor:
    """What their pipeline draws."""
    model = model_of(reference, case, causal=True)
    for layer in case.layers if case.actions else ():  # else their only window is for both
        model.blocks[layer].action_model.local_attn_size = case.actions
    args = types.SimpleNamespace(
        denoising_step_list=list(case.steps),
        warp_denoising_step=True,
        num_frame_per_block=cases.CHUNK,
        independent_first_frame=False,
        context_noise=0,
    )
    vae = types.SimpleNamespace(decode_to_pixel=lambda latents, **_: latents)
    pipeline = reference.pipeline.CausalInferencePipeline(
        args, "cpu", generator=generator_of(reference, model), text_encoder=nn.Identity(),
        vae=nn.Identity(),
    )  # fmt: skip
    object.__setattr__(pipeline, "vae", vae)
    pipeline.num_transformer_blocks = cases.LAYERS
    real, numbers = torch.zeros, iter(range(1000))

    def zeros(*size: Any, **options: Any) -> Tensor:
        """Caches of our heads instead of 12 x 128 and 16 x 64."""
        heads = {
            (12, 128): (cases.HEADS, cases.WIDTH // cases.HEADS),
            (16, 64): (cases.ACTION_HEADS, cases.ACTION_HEAD_WIDTH),
        }
        if size and isinstance(size[0], list) and tuple(size[0][-2:]) in heads:
            size = ([*size[0][:-2], *heads[tuple(size[0][-2:])]],)
        return real(*size, **options)

    def like(_: Tensor) -> Tensor:
        return case.renoise(next(numbers))

    any_torch: Any = torch
    kept, any_torch.zeros, any_torch.randn_like = torch.randn_like, zeros, like
    try:
        _, latents = pipeline.inference(case.noise(), told(case), return_latents=True)
    finally:
        any_torch.zeros, any_torch.randn_like = real, kept
    return latents


def whole_clips(reference: Any) -> dict[str, Tensor]:
    """One pass of the bidirectional model, of the causal one without a cache, of a packed clip."""
    case, found = cases.WHOLE, {}
    ours = {
        "visual_context": case.features(),
        "cond_concat": case.picture().movedim(1, 2),
        "keyboard_cond": case.key_rows(),
        "mouse_cond": case.mouse_rows(),
    }
    noisy = case.noise().movedim(1, 2)
    model = model_of(reference, case, causal=False)
    found["bidirectional"] = model(noisy, t=torch.tensor([625.0]), **ours).movedim(1, 2)
    levels = torch.tensor(cases.TICKS).repeat_interleave(cases.CHUNK)[None]
    model = model_of(reference, case, causal=True)
    found["causal"] = model(noisy, t=levels, **ours).movedim(1, 2)
    case = cases.PACKED
    model = model_of(reference, case, causal=True)
    packed = model(
        noisy,
        t=levels,
        visual_context=case.features(),
        cond_concat=case.picture().movedim(1, 2),
        keyboard_cond=case.key_rows(),
        clean_x=cases.clean().movedim(1, 2),
    )
    found["packed"] = packed.movedim(1, 2)
    return found


def features(folder: str) -> Tensor:
    """Of a picture, by their image encoder and their preparation of pictures."""
    stub("torchvision")
    stub("torchvision.transforms")
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    stub("wan.modules.tokenizers", HuggingfaceTokenizer=None)
    spec = importlib.util.spec_from_file_location(
        "wan.modules.real_clip", f"{folder}/wan/modules/clip.py"
    )
    assert spec is not None
    assert spec.loader is not None
    clip: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(clip)
    clip.flash_attention = attention
    sizes = cases.IMAGE_ENCODER
    model = clip.VisionTransformer(
        image_size=sizes.side, patch_size=sizes.patch, dim=sizes.width, num_heads=2,
        num_layers=1 + sizes.layers, activation="gelu", out_dim=8,
        mlp_ratio=sizes.feed_forward // sizes.width,
    )  # fmt: skip
    shapes = {f"visual.{n}": tuple(x.shape) for n, x in model.state_dict().items()}
    numbers = weights(shapes, cases.GAIN)
    model.load_state_dict({name.removeprefix("visual."): x for name, x in numbers.items()})
    model.eval()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    both = types.SimpleNamespace(image_size=sizes.side, visual=model)
    normalise = types.SimpleNamespace(transforms=[lambda x: (x - mean) / std])
    whole = types.SimpleNamespace(model=both, transforms=normalise, dtype=torch.float32)
    shown = torch.from_numpy(cases.picture_bytes()).movedim(-1, 0).float() / 127.5 - 1
    return clip.CLIPModel.visual(whole, [shown[:, None]])[0]


@torch.no_grad()
def main(folder: str) -> None:
    reference = read_reference(folder)
    results = {name: roll_out(reference, case) for name, case in cases.ROLLOUTS.items()}
    results |= whole_clips(reference)
    results["features"] = features(folder)
    whole = {name: tensor.contiguous() for name, tensor in results.items()}
    save_file(whole, GOLDEN / "matrix_game2.safetensors", {"torch": str(torch.__version__)})


if __name__ == "__main__":
    main(*sys.argv[1:])
