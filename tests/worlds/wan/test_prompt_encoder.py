"""Words that no embedding on file says: a real, small UMT5 encoder reads them while one plays."""

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pygame
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import UMT5Config, UMT5EncoderModel

from play import open_world
from tests.worlds.wan.wan_tiny import plan, save_student, save_taehv, save_words
from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import UserError
from worldmodel.game.cli import main
from worldmodel.game.loop import Game
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.storage.recording import read_recording
from worldmodel.wan.background_encoder import PlayEncoder
from worldmodel.wan.prompts import load_prompts
from worldmodel.wan.text_encoder import embed, encode_prompts
from worldmodel.world import Frame, step
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import PROMPTS

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)
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
    """The words are said with the second frame; chunks begin at frames 1, 5 and 9."""
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


class Gate:
    """Lets the real encoder go on when it is told to, so that a test knows how long that takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open, self.texts = threading.Event(), 0

        def wait(*arguments: Any) -> torch.Tensor:
            self.texts += 1
            assert self.is_open.wait(timeout=30)
            return embed(*arguments)

        monkeypatch.setattr("worldmodel.wan.background_encoder.embed", wait)

    def open(self) -> None:
        self.is_open.set()
        for thread in threading.enumerate():
            if thread.name == "text encoder":
                thread.join()


def follow(world: WanWorld, action: Action) -> tuple[Frame, Action]:
    followed = world.follow(action)
    return step(world, followed), followed


def test_play_goes_on_under_the_old_words_while_the_new_ones_are_encoded(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said with frame 2, encoded after frame 6; chunks begin at frames 5, 9 and 13."""
    world, gate = WanWorld.load(make(tmp_path / "world", encoder), SETTINGS), Gate(monkeypatch)
    seen, told = [world.reset(0, seed=0)], [IDLE]
    for i in range(1, 17):
        said = Action(prompt=Prompt("a red ball", renew=True)) if i == 2 else IDLE
        frame, followed = follow(world, said)
        seen.append(frame)
        told.append(followed)
        assert bool(world.waiting) == (2 <= i < 9)
        assert world.waiting in ("", "“a red ball” is being encoded")
        if i == 6:
            gate.open()
    assert [(i, a.prompt) for i, a in enumerate(told) if a.prompt] == [
        (9, Prompt("a red ball", renew=True))
    ]
    silent = play(world, "", 17)
    same = [np.array_equal(a, b) for a, b in zip(seen, silent, strict=True)]
    assert same == [True] * 9 + [False] * 8
    fresh = WanWorld.load(tmp_path / "world", SETTINGS)  # knows the words of files only
    again = [fresh.reset(0, seed=0), *(step(fresh, action) for action in told[1:])]
    assert all(map(np.array_equal, again, seen))
    assert gate.texts == 2


def test_the_last_words_count_and_going_elsewhere_forgets_them(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, gate = WanWorld.load(make(tmp_path / "world", encoder), SETTINGS), Gate(monkeypatch)
    world.reset(0, seed=0)
    follow(world, IDLE)
    before = world.save_state()
    for text in ("a red ball", "the blue house", "the moon"):
        follow(world, Action(prompt=Prompt(text)))
    gate.open()
    heard = [follow(world, IDLE)[1].prompt for _ in range(8)]
    assert [prompt.text for prompt in heard if prompt] == ["the moon"]
    assert gate.texts == 2  # the house was not begun when other words were said
    assert follow(world, Action(prompt=Prompt("the moon")))[1].prompt  # known now: at once
    for text, leave in (
        ("on the moon", lambda: world.reset(0, seed=0)),
        ("on the house", lambda: world.load_state(before)),
    ):
        gate.is_open.clear()
        follow(world, Action(prompt=Prompt(text)))
        assert world.waiting
        leave()
        assert not world.waiting
        gate.open()
        assert not any(follow(world, IDLE)[1].prompt for _ in range(8))


def test_a_key_whose_words_are_not_known_counts_as_pressed_when_they_are(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "world", encoder, ("a forest", "a desert"))
    import_files(
        [save_words(tmp_path / "w.safetensors")],
        folder,
        replace(plan(None), openings=(), keys={"Digit1": "+ + rain", "Digit2": "a desert"}),
    )
    own = replace(SETTINGS, prompt="a red ball")  # with which the keys' words were not encoded
    world = WanWorld.load(folder, own)
    world.reset(0, seed=0)
    gate = Gate(monkeypatch)
    held = Action(frozenset({"Digit1"}))
    told = [follow(world, held)[1] for _ in range(3)]
    assert world.waiting == "“a red ball + rain” is being encoded"
    gate.open()
    told += [follow(world, held)[1] for _ in range(3)]
    told += [follow(world, action)[1] for action in (IDLE, held, held)]
    assert [action.prompt for action in told] == [None] * 4 + [Prompt("+ + rain")] + [None] * 4
    assert [bool(action.buttons) for action in told] == [False] * 7 + [True] * 2
    assert world.session.said == "a red ball + rain"
    assert gate.texts == 1
    both = follow(world, Action(frozenset({"Digit2"}), prompt=Prompt("a blue ball")))[1]
    assert both == Action(frozenset({"Digit2"}))
    assert world.waiting == "“a blue ball” is being encoded"


def test_words_that_cannot_be_encoded_are_told_once_and_can_be_said_again(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone" / encoder.name
    shutil.copytree(encoder.parent, gone.parent)
    folder = make(tmp_path / "world", gone)
    world = WanWorld.load(folder, SETTINGS)
    shutil.move(gone.parent, tmp_path / "away")
    world.reset(0, seed=0)
    gate = Gate(monkeypatch)
    follow(world, Action(prompt=Prompt("a red ball")))
    gate.open()
    heard = [follow(world, IDLE)[1] for _ in range(8)]
    assert heard == [IDLE] * 8
    assert not world.waiting
    assert f"{gone}: no such file" in world.take_notice()
    assert not world.take_notice()
    shutil.move(tmp_path / "away", gone.parent)
    follow(world, Action(prompt=Prompt("a red ball")))
    gate.open()
    assert [a.prompt for a in (follow(world, IDLE)[1] for _ in range(8)) if a.prompt]


@pytest.mark.parametrize("free", [1e12, 1000.0])
def test_the_encoder_stays_loaded_where_there_is_room_and_says_the_same(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, free: float
) -> None:
    monkeypatch.setattr("worldmodel.wan.background_encoder.free_bytes", lambda _: free)
    play_encoder = PlayEncoder(encoder, CPU)
    found = [play_encoder.ask(text).result() for text in ("a red ball", "the moon")]
    assert play_encoder.is_near == (free > 1e6)
    expected = encode_prompts(["a red ball", "the moon"], encoder, encoder.parent, CPU)
    assert all(map(torch.equal, found, expected))
    assert encoder.is_file()
    monkeypatch.setattr(
        "worldmodel.wan.background_encoder.load_text_encoder", None
    )  # is not called again
    assert torch.equal(play_encoder.ask("a red ball").result(), expected[0])
    assert play_encoder.ask("on the moon").result().shape == (4, 12)


UNFINISHED = """
import sys, threading, time
from pathlib import Path
import torch
from worldmodel.wan import text_encoder as text
from worldmodel.wan.background_encoder import PlayEncoder

begun, arrive = threading.Event(), text._Visitor.arrive

def slow(self, part, inputs):
    begun.set()
    time.sleep(4.0)  # of each of the parts
    arrive(self, part, inputs)

text._Visitor.arrive = slow
weights = Path(sys.argv[1])
PlayEncoder(weights, torch.device("cpu")).ask("a red ball")
assert begun.wait(60)
print(time.time())
"""


def test_leaving_does_not_wait_for_a_text_to_be_encoded(encoder: Path) -> None:
    command = [sys.executable, "-c", UNFINISHED, str(encoder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert time.time() - float(done.stdout) < 10  # three parts would take 12 s
    assert done.stderr == ""


def test_words_typed_in_the_window_are_recorded_where_they_steer(
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    folder, gate = make(tmp_path / "world", encoder), Gate(monkeypatch)
    enter = pygame.event.Event(pygame.KEYDOWN, scancode=pygame.KSCAN_RETURN, mod=0)
    typed = iter([enter, pygame.event.Event(pygame.TEXTINPUT, text="a red ball"), enter])
    show, drawn = Game.show, list[str]()

    def type_and_show(game: Game, step: PlayedFrame) -> None:
        show(game, step)
        drawn.append(game.window.overlay.waiting)
        if event := next(typed, None):
            pygame.event.post(event)
        if step.index == 10:
            gate.open()

    monkeypatch.setattr(Game, "show", type_and_show)
    run = ["--device", "cpu", "--dtype", "float32", "--threads", "1", "--world", str(folder)]
    play = ["--sync", "--fps", "0", "--frames", "20", "--record", "typed"]
    assert main([*run, *play], open_world) == 0
    rows = read_recording(Path("typed.jsonl"))[1]
    assert [(row.index, row.action.prompt) for row in rows if row.action.prompt] == [
        (13, Prompt("a red ball"))
    ]
    assert "“a red ball” is being encoded" in drawn
    assert drawn[-1] == ""
    monkeypatch.setattr(Game, "show", show)
    assert main(["--replay", "typed.jsonl", "--headless"], open_world) == 0
    assert "21 of 21 frames identical" in capsys.readouterr().out
