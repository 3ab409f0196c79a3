"""Settings and controls that last."""

import os
from pathlib import Path

import pytest

from worldmodel.config import ConfigError
from worldmodel.game.controls import Command, Controls, GamepadControls, command_keys
from worldmodel.game.preferences import DisplaySettings, Preferences


def test_what_was_set_is_there_the_next_time(tmp_path: Path) -> None:
    preferences = Preferences.read(folder=tmp_path)
    assert preferences.set(font=1.5, scaling="integer", filter="lanczos") == ""
    controls = Controls(
        gamepad=GamepadControls(dead_zone=0.3),
        buttons={"KeyW": ("ArrowUp", "PadA")},
        commands={"pause": ("KeyO",)},
    )
    assert preferences.set_controls(controls) == ""
    again = Preferences.read(folder=tmp_path)
    assert again.settings == DisplaySettings(font=1.5, scaling="integer", filter="lanczos")
    assert again.controls == controls


def test_a_command_that_was_renamed_is_read_by_its_old_name(tmp_path: Path) -> None:
    (tmp_path / "controls.toml").write_text('[commands]\nbeside = "KeyO"\n', encoding="utf-8")
    controls = Preferences.read(folder=tmp_path).controls
    assert command_keys(controls)["KeyO"] is Command.SIDE_BY_SIDE


def test_the_command_line_overrules_and_is_not_kept(tmp_path: Path) -> None:
    preferences = Preferences.read(folder=tmp_path)
    preferences.overrule(numbers=False)
    preferences.set(font=2.0)
    assert not preferences.settings.numbers
    assert Preferences.read(folder=tmp_path).settings == DisplaySettings(font=2.0)


def test_a_controls_file_of_the_command_line_is_never_written(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("turn_degrees = 3  # slowly\n", encoding="utf-8")
    preferences = Preferences.read(mine, folder=tmp_path / "config")
    assert "until the game ends" in preferences.set_controls(Controls(turn_degrees=9.0))
    assert preferences.controls.turn_degrees == 9.0
    assert mine.read_text(encoding="utf-8") == "turn_degrees = 3  # slowly\n"
    assert not (tmp_path / "config").exists()


def test_reading_writes_nothing(tmp_path: Path) -> None:
    Preferences.read(folder=tmp_path / "config")
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("settings.toml", "fonts = 2", "settings.toml: unknown key 'fonts'; choose from scaling"),
        ("settings.toml", "font = 9.0", "settings.toml: font = 9.0: from 0.75 to 3.0; correct"),
        ("settings.toml", 'filter = "blur"', "filter = 'blur': choose from 'nearest'"),
        ("settings.toml", "font = ", "cannot be read as TOML.*correct the file or remove it"),
        ("controls.toml", '[commands]\nfly = "KeyF"', "nothing is called 'fly'; choose from"),
        ("controls.toml", '[commands]\npause = "keyp"', "no key is called 'keyp'.*KeyP"),
        ("controls.toml", "[gamepad]\ndead_zone = 1.0", r"dead_zone \(1.0\) must be from 0"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_file(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as found:
        Preferences.read(folder=tmp_path)
    assert "\n" not in str(found.value).split(" (at")[0]


def test_a_write_that_fails_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferences = Preferences.read(folder=tmp_path)
    preferences.set(font=1.5)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in preferences.set(font=2.0)
    assert preferences.settings.font == 2.0, "it holds for now"
    assert Preferences.read(folder=tmp_path).settings.font == 1.5


def test_a_chosen_key_is_taken_from_the_command_that_usually_has_it() -> None:
    keys = command_keys(Controls(commands={"restart": ("KeyP",)}))
    assert keys["KeyP"] is Command.RESTART
    assert "F4" not in keys
    assert Command.PAUSE not in keys.values()
    assert keys["PadY"] is Command.NEXT_START, "the gamepad's stay"


def test_two_games_that_are_played_at_once_lose_nothing_of_each_others_settings(
    tmp_path: Path,
) -> None:
    one, other = Preferences.read(folder=tmp_path), Preferences.read(folder=tmp_path)
    one.set(font=2.0)
    other.set(filter="lanczos")
    one.set_controls(Controls(commands={"pause": ("KeyO",)}))
    other.set_controls(Controls(turn_degrees=3.0))
    kept = Preferences.read(folder=tmp_path)
    assert kept.settings == DisplaySettings(font=2.0, filter="lanczos")
    assert kept.controls == Controls(turn_degrees=3.0, commands={"pause": ("KeyO",)})
    assert other.settings.font == 1.0, "what is seen does not change under the player's hands"


def test_what_could_not_be_kept_is_kept_with_the_next_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferences = Preferences.read(folder=tmp_path)
    preferences.set(numbers=False)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
        assert "disk full" in preferences.set(font=2.0)
    assert preferences.set(filter="lanczos") == ""
    kept = Preferences.read(folder=tmp_path).settings
    assert kept == DisplaySettings(numbers=False, font=2.0, filter="lanczos")


def test_a_file_that_is_written_by_hand_meanwhile_is_never_lost(tmp_path: Path) -> None:
    preferences = Preferences.read(folder=tmp_path)
    by_hand = "turn_degrees = 3\n[commands]\npause = "  # in the middle of a line
    (tmp_path / "controls.toml").write_text(by_hand, encoding="utf-8")
    assert "controls.toml: cannot be read as TOML" in preferences.set_controls(
        Controls(degrees_per_pixel=0.2)
    )
    assert (tmp_path / "controls.toml").read_text(encoding="utf-8") == by_hand
    assert preferences.controls.degrees_per_pixel == 0.2


def test_a_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    mine, config = tmp_path / "dotfiles" / "settings.toml", tmp_path / "config"
    mine.parent.mkdir()
    config.mkdir()
    mine.write_text("font = 1.5\n", encoding="utf-8")
    (config / "settings.toml").symlink_to(mine)
    (config / "controls.toml").symlink_to(config / "controls.toml")  # a circle
    preferences = Preferences(folder=config)
    assert preferences.set(numbers=False) == ""
    assert (config / "settings.toml").is_symlink()
    assert "numbers = false" in mine.read_text(encoding="utf-8")
    assert preferences.set_controls(Controls(turn_degrees=3.0)).startswith("not kept: ")
