"""What `dtype = "auto"` of a stage means: float32 where bfloat16 is not multiplied natively."""

from pathlib import Path

import pytest
import torch

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError
from worldmodel.model.configs import AutoencoderConfig
from worldmodel.model.state_configs import EventsConfig
from worldmodel.training.autoencoder import AutoencoderTraining
from worldmodel.training.events import EventsTraining
from worldmodel.training.run_stage import with_dtype
from worldmodel.training.stage import LoopConfig

CPU = torch.device("cpu")


def autoencoder(dtype: str) -> AutoencoderTraining:
    return AutoencoderTraining(
        stage="autoencoder",
        data=Path("data"),
        heldout=Path("heldout"),
        batch=1,
        model=AutoencoderConfig(
            frame_height=16, frame_width=16, widths=(8,), blocks=1, latent_channels=4
        ),
        loop=LoopConfig(steps=1, learning_rate=1e-3, dtype=dtype),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_what_the_processor_multiplies(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert with_dtype(autoencoder("auto"), CPU).loop.dtype == dtype  # type: ignore[union-attr]


def test_what_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert with_dtype(autoencoder("bfloat16"), CPU).loop.dtype == "bfloat16"  # type: ignore[union-attr]


def test_numbers_are_exact_whatever_the_processor_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    model = EventsConfig(
        buttons=1, mouse_degrees=6.0, latent_channels=4, latent_height=2, latent_width=2
    )

    def events(dtype: str) -> EventsTraining:
        return EventsTraining(
            stage="events",
            data=Path("data"),
            heldout=Path("heldout"),
            autoencoder=Path("autoencoder"),
            actions=ActionSpec(
                buttons=("KeyW",), names=("go",), mouse_degrees=6.0, max_mouse_degrees=6.0
            ),
            model=model,
            loop=LoopConfig(steps=1, learning_rate=1e-3, dtype=dtype),  # type: ignore[arg-type]
        )

    assert with_dtype(events("auto"), CPU).loop.dtype == "float32"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="float32"):
        events("bfloat16")
