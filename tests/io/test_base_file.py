import pytest

from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import BASE_FOLDERS, CARD, find_base


@pytest.mark.parametrize("name", ["arm-semiparametric", "bases/arm-semiparametric"])
def test_a_base_that_ships_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_base(name) == BASE_FOLDERS[0] / "arm-semiparametric"


def test_a_base_of_ones_own_comes_before_one_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "bases" / "arm-semiparametric"
    own.mkdir(parents=True)
    (own / CARD).write_text("{}")
    assert find_base("bases/arm-semiparametric").resolve() == own


def test_a_misspelt_base_gets_the_names_of_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SnapshotError, match=r"no base in bases/arm-robuts. Did you mean 'arm-robust'\?"
    ) as error:
        find_base("bases/arm-robuts")
    assert "arm-gru, arm-oracle, arm-robust, arm-semiparametric" in str(error.value)


def test_a_folder_that_is_no_base_is_refused_by_what_it_lacks(tmp_path):
    with pytest.raises(SnapshotError, match="it has no base.json"):
        find_base(tmp_path)
