"""Words that no embedding on file says: a real, small UMT5 encoder reads them while one plays."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import UMT5Config, UMT5EncoderModel

from tests.worlds.wan_tiny import plan, save_student, save_taehv, save_words
from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import UserError
from worldmodel.wan.prompts import load_prompts
from worldmodel.wan.text import encode_prompts
from worldmodel.world import Frame, step
from worldmodel.worlds.settings import Settings
from worldmodel.worlds.wan import WanWorld
from worldmodel.worlds.wan_file import PROMPTS
from worldmodel.worlds.wan_import import import_files

SETTINGS = Settings(device="cpu", dtype="float32", threads=1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as transformers saves them, a tokenizer beside them; made from a config."""
    folder = tmp_path_factory.mktemp("umt5")
    words = [
        "<pad>",
        "</s>",
        "<unk>",
        *["a", "red", "blue", "green", "ball", "house", "on", "the", "moon"],
    ]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = UMT5Config(
        vocab_size=len(words), d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=3
    )
    torch.manual_seed(4)
    UMT5EncoderModel(sizes).eval().save_pretrained(folder)
    return folder / "model.safetensors"


def make(folder: Path, encoder: Path, openings: tuple[str, ...] = ("a forest",)) -> Path:
    given = folder.parent
    files = [save_student(given / "m.pt"), save_taehv(given / "t.pth")]
    files.append(save_words(given / "w.safetensors"))
    told = replace(plan(), openings=openings, keys={}, text_encoder=str(encoder))
    import_files(files, folder, told)
    return folder


def play(world: WanWorld, said: str, frames: int = 9) -> list[Frame]:
    """The words are said with the second frame; blocks begin at frames 1, 5 and 9."""
    first = world.reset(0, seed=0)
    actions = [Action(prompt=Prompt(said)) if i == 2 and said else IDLE for i in range(1, frames)]
    return [first, *(step(world, action) for action in actions)]


def test_words_without_an_embedding_are_read_by_the_encoder_in_play(
    encoder: Path, tmp_path: Path
) -> None:
    world = WanWorld.load(make(tmp_path / "world", encoder), SETTINGS)
    assert "a red ball" not in world.parts.words.known
    silent, red, house = (play(world, said) for said in ("", "a red ball", "the blue house"))
    assert [np.array_equal(a, b) for a, b in zip(silent, red, strict=True)] == [True] * 5 + [
        False
    ] * 4
    assert not np.array_equal(red[-1], house[-1])
    assert world.take_notice() == ""
    expected = encode_prompts(["a red ball"], encoder, encoder.parent, CPU)[0]
    assert expected.shape == (4, 12)  # three words and the end
    assert torch.equal(world.parts.words.known["a red ball"], expected)
    reference = UMT5EncoderModel.from_pretrained(encoder.parent)(
        input_ids=torch.tensor([[3, 4, 7, 1]])
    ).last_hidden_state[0]
    torch.testing.assert_close(expected, reference.detach(), rtol=1e-5, atol=1e-6)


def test_openings_are_read_at_the_import_and_play_needs_no_encoder(
    encoder: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone" / encoder.name
    shutil.copytree(encoder.parent, gone.parent)
    folder = make(tmp_path / "world", gone, ("a blue moon",))
    assert "a blue moon" in load_prompts(folder / PROMPTS)
    shutil.rmtree(gone.parent)
    world = WanWorld.load(folder, SETTINGS)
    frames = play(world, "a green house")
    notice = world.take_notice()
    assert str(gone) in notice
    assert "no such file" in notice
    assert "\n" not in notice
    world.reset(0, seed=0)
    assert all(map(np.array_equal, frames, play(world, "")))  # the words before steer on


def test_an_encoder_that_is_not_there_or_none_is_named_in_one_sentence(
    encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        make(tmp_path / "world", tmp_path / "none.pth", ("a moon",))
    with pytest.raises(UserError, match="not the weights of a UMT5 encoder"):
        make(tmp_path / "world", save_taehv(tmp_path / "no_encoder.pth"), ("a moon",))
    assert not (tmp_path / "world").exists()
    assert encoder.is_file()
