"""A registry refuses duplicates, suggests names, and survives the plug-ins of strangers."""

import sys

import pytest

from loraudit.errors import ConfigError
from loraudit.registry import Registry

GROUP = "loraudit_test_numbers"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install distributions, as pip would leave them, that declare entry points in `GROUP`."""

    def install(name: str, source: str, *points: str) -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)  # left there by another test
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"[{GROUP}]", *points]
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_entries_are_found_under_their_names_in_the_order_added():
    numbers: Registry[int] = Registry("number")
    numbers.add("two", 2)
    numbers.add("one", 1)
    assert dict(numbers) == {"two": 2, "one": 1}
    assert list(numbers) == ["two", "one"]
    assert len(numbers) == 2
    assert "one" in numbers
    assert "three" not in numbers


def test_a_taken_name_is_refused_and_the_first_entry_stays():
    numbers: Registry[int] = Registry("number")
    numbers.add("one", 1)
    with pytest.raises(ConfigError, match=r"^The number name 'one' is registered twice\. Expected unique names\."):
        numbers.add("one", 2)
    assert numbers["one"] == 1


def test_an_unknown_name_is_refused_with_the_nearest_one():
    numbers: Registry[int] = Registry("number")
    numbers.add("seven", 7)
    with pytest.raises(ConfigError, match=r"^Unknown number 'sevn'\. Did you mean 'seven'\? Known: seven\.$"):
        numbers["sevn"]


READS = {
    "length": len,
    "names": list,
    "membership": lambda numbers: "three" in numbers,
    "entry": lambda numbers: numbers["three"],
}


@pytest.mark.parametrize("read", READS)
def test_entry_points_are_loaded_the_first_time_the_registry_is_read(installed, read):
    installed("numbers_plugin", "three = 3\n", "three = numbers_plugin:three")
    numbers: Registry[int] = Registry("number", entry_point_group=GROUP)
    numbers.add("one", 1)
    READS[read](numbers)
    assert dict(numbers) == {"one": 1, "three": 3}
    assert numbers.broken == {}


def test_entry_points_of_another_group_are_left_alone(installed):
    installed("numbers_plugin", "three = 3\n", "three = numbers_plugin:three")
    assert dict(Registry("number", entry_point_group="loraudit_test_letters")) == {}
    assert dict(Registry("number")) == {}


def test_a_plug_in_that_fails_is_named_and_does_not_stop_the_others(installed):
    installed("broken_plugin", "raise RuntimeError('no such device')\n", "bad = broken_plugin:bad")
    installed("good_plugin", "three = 3\n", "three = good_plugin:three", "gone = good_plugin:gone")
    numbers: Registry[int] = Registry("number", entry_point_group=GROUP)
    assert dict(numbers) == {"three": 3}
    assert numbers.broken["bad = broken_plugin:bad"] == "RuntimeError: no such device"
    assert numbers.broken["gone = good_plugin:gone"].startswith("AttributeError: ")
    assert len(numbers.broken) == 2


def test_a_plug_in_cannot_take_the_name_of_a_built_in(installed):
    installed("numbers_plugin", "one = 111\n", "one = numbers_plugin:one")
    numbers: Registry[int] = Registry("number", entry_point_group=GROUP)
    numbers.add("one", 1)
    assert numbers["one"] == 1
    assert "registered twice" in numbers.broken["one = numbers_plugin:one"]


def test_a_plug_in_that_is_not_what_it_says_is_left_out_with_the_reason(installed):
    installed(
        "numbers_plugin", "three = 3\nfour = 'iv'\n", "three = numbers_plugin:three", "four = numbers_plugin:four"
    )
    numbers: Registry[int] = Registry(
        "number",
        entry_point_group=GROUP,
        problem=lambda name, entry: None if isinstance(entry, int) else f"'{name}' is no number",
    )
    assert dict(numbers) == {"three": 3}
    assert numbers.broken == {"four = numbers_plugin:four": "'four' is no number"}


def test_a_check_of_plug_ins_that_fails_itself_does_not_stop_the_others(installed):
    installed(
        "numbers_plugin", "three = 3\nfour = None\n", "three = numbers_plugin:three", "four = numbers_plugin:four"
    )

    def problem(name: str, entry: int) -> None:
        entry.bit_length()

    numbers: Registry[int] = Registry("number", entry_point_group=GROUP, problem=problem)
    assert dict(numbers) == {"three": 3}
    assert numbers.broken["four = numbers_plugin:four"].startswith("AttributeError: ")
