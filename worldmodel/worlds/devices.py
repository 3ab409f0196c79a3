"""On which device a world computes, and in which numbers, where that was left to it."""

import torch

from worldmodel.config import UserError


def choose_device(wanted: str) -> torch.device:
    """The device to run on; one that is asked for and not there is an error."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[wanted]:
        raise UserError(
            f"--device {wanted}: torch {torch.__version__} finds no such device here; "
            "use --device cpu or install the torch build for it"
        )
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> str:
    """bfloat16 where the processor multiplies it natively, else float32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bfloat16"
    return "float32"


def fast_autocast(device: torch.device) -> torch.autocast:
    """Products in bfloat16 where the processor multiplies it natively, else as they are."""
    native = choose_dtype("auto", device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
