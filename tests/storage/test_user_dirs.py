import sys
from pathlib import Path

import pytest

from worldmodel.config import UserError
from worldmodel.storage.user_dirs import cache_folder, config_folder, data_folder

OWN = ("WORLDMODEL_DATA", "WORLDMODEL_CONFIG", "WORLDMODEL_CACHE")


@pytest.fixture(autouse=True)
def no_folders_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OWN, "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has these folders")
def test_linux_keeps_everything_where_its_other_programs_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".local" / "share" / "worldmodel"
    assert config_folder() == tmp_path / ".config" / "worldmodel"
    assert cache_folder() == tmp_path / ".cache" / "worldmodel"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert config_folder() == tmp_path / "elsewhere" / "worldmodel"


def test_there_is_no_folder_of_an_author() -> None:
    assert data_folder().name == config_folder().name == "worldmodel"


def test_variables_of_our_own_overrule_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in OWN:
        monkeypatch.setenv(name, str(tmp_path / name))
    assert [data_folder(), config_folder(), cache_folder()] == [tmp_path / name for name in OWN]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the user")
def test_without_a_home_nothing_is_written_into_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UserError, match="WORLDMODEL_DATA"):
        data_folder()
    with pytest.raises(UserError, match="WORLDMODEL_CONFIG"):
        config_folder()
    assert cache_folder() is None
