"""From a name to files that are safe to read, or to one sentence that says what to do."""

from __future__ import annotations

import json
import types

import huggingface_hub
import pytest
from huggingface_hub import errors

from loraudit.errors import EnvironmentFault, ModelError
from loraudit.models import locate
from loraudit.models.locate import is_hub_name


@pytest.fixture
def folder(tmp_path):
    """A folder named as given, holding the given files; what is no string becomes JSON."""

    def make(**files):
        place = tmp_path / "model"
        place.mkdir()
        for name, content in files.items():
            path = place / name.replace("__", ".")
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return place

    return make


@pytest.fixture
def hub(monkeypatch):
    """Answer downloads with a folder or an error; gives the list of calls."""
    calls = []

    def answer(outcome):
        def download(name, **options):
            calls.append({"name": name, **options})
            if isinstance(outcome, Exception):
                raise outcome
            return str(outcome)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        return calls

    return answer


def http_error(kind, message="the server said no"):
    return kind(message, response=types.SimpleNamespace(headers={}, request=None))


# --- folders ------------------------------------------------------------------------------------------


def test_a_checkpoint_is_found_with_its_config(base):
    found = locate(str(base))
    assert (found.kind, found.folder, found.name, found.is_from_hub) == ("checkpoint", base, str(base), False)
    assert found.config["model_type"] == "llama"


def test_an_adapter_is_found_with_its_config(adapter):
    found = locate(str(adapter))
    assert (found.kind, found.is_from_hub) == ("adapter", False)
    assert found.config["peft_type"] == "LORA"


def test_a_folder_with_both_configs_is_an_adapter(folder):
    place = folder(config__json={}, adapter_config__json={"peft_type": "LORA"}, adapter_model__safetensors="")
    assert locate(str(place)).kind == "adapter"


def test_a_path_with_spaces_and_unicode_is_a_folder(tmp_path, folder):
    place = folder(config__json={}, model__safetensors="").rename(tmp_path / "mein Modell – größer")
    assert locate(str(place)).folder == place


def test_a_missing_folder_is_said_to_be_missing():
    with pytest.raises(
        ModelError, match=r"Model folder '/no/such/model' does not exist. Expected a folder with config"
    ):
        locate("/no/such/model")


def test_a_file_is_said_to_be_no_folder(tmp_path):
    (tmp_path / "mem.jsonl").write_text("{}\n")
    with pytest.raises(
        ModelError, match=r"^Model '.*mem\.jsonl' is a file\. Expected a folder with config\.json or adapt"
    ):
        locate(str(tmp_path / "mem.jsonl"))


@pytest.mark.parametrize("name", ["./missing", "../missing", "~/missing", "models/missing/", "a/b/c"])
def test_a_missing_path_is_not_taken_for_a_hub_name(hub, name):
    calls = hub(AssertionError("nobody should ask the hub"))
    with pytest.raises(ModelError, match=r"Model folder '.*' does not exist"):
        locate(name)
    assert not calls


def test_a_folder_without_a_config_is_refused(folder):
    place = folder(model__safetensors="")
    with pytest.raises(ModelError, match=r"holds neither config.json nor adapter_config.json. Expected a checkpoint"):
        locate(str(place))


def test_an_adapter_whose_config_is_absent_is_refused(folder):
    place = folder(adapter_model__safetensors="")
    with pytest.raises(ModelError, match=r"holds neither config.json nor adapter_config.json"):
        locate(str(place))


@pytest.mark.parametrize("name", ["config__json", "adapter_config__json"])
@pytest.mark.parametrize("content", ["", '{"peft_type": "LO', "{'a': 1}"])
def test_a_truncated_config_is_named(folder, name, content):
    place = folder(**{name: content}, model__safetensors="")
    with pytest.raises(ModelError, match=rf"/{name.replace('__', '.')}' cannot be read: .*Save or download the model"):
        locate(str(place))


def test_a_config_that_is_not_utf8_is_named(folder):
    place = folder(config__json="", model__safetensors="")
    (place / "config.json").write_bytes(b'{"name": "\xff\xfe"}')
    with pytest.raises(ModelError, match=r"config.json' cannot be read"):
        locate(str(place))


def test_a_config_that_is_no_object_is_refused(folder):
    place = folder(config__json="[1, 2]", model__safetensors="")
    with pytest.raises(ModelError, match=r"config.json' holds no JSON object"):
        locate(str(place))


def test_a_folder_without_weights_is_refused(folder):
    place = folder(config__json={}, training_args__bin="")
    with pytest.raises(ModelError, match=r"has no weights. Expected a .safetensors file in "):
        locate(str(place))


# --- safety -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
def test_pickled_weights_are_refused_up_front(folder, name):
    place = folder(config__json={}, **{name.replace(".", "__"): ""})
    with pytest.raises(ModelError, match=rf"has only pickled weights \({name}\), which can run code .* --allow-pickle"):
        locate(str(place))


def test_pickled_weights_can_be_accepted(folder):
    place = folder(config__json={}, pytorch_model__bin="")
    assert locate(str(place), allow_pickle=True).kind == "checkpoint"


def test_pickles_beside_safetensors_do_no_harm(folder):
    place = folder(config__json={}, model__safetensors="", pytorch_model__bin="", optimizer__pt="")
    assert locate(str(place)).kind == "checkpoint"


def test_a_pickled_adapter_is_refused_also_beside_another_safetensors_file(folder):
    place = folder(adapter_config__json={"peft_type": "LORA"}, adapter_model__bin="", other__safetensors="")
    with pytest.raises(ModelError, match=r"has only pickled weights \(adapter_model.bin\)"):
        locate(str(place))


@pytest.mark.parametrize("kind", ["", "adapter_"])
def test_a_model_that_brings_its_own_code_is_refused(folder, kind):
    files = {f"{kind}config__json": {"auto_map": {"AutoModelForCausalLM": "code.Model"}}}
    place = folder(**files, adapter_model__safetensors="", model__safetensors="")
    with pytest.raises(ModelError, match=r"needs code that comes with it, .* --allow-remote-code"):
        locate(str(place))
    assert locate(str(place), allow_remote_code=True).config["auto_map"]


# --- the hub ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "org/model", "org/model-1.5_b", "0rg/m"])
def test_hub_names_are_recognised(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name)


@pytest.mark.parametrize("name", ["", "/abs", "a/b/c", "a b/c", "org/", "/x/y"])
def test_other_names_are_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name(name)


def test_a_folder_of_that_name_wins_over_the_hub(hub, base, tmp_path, monkeypatch):
    calls = hub(AssertionError("nobody should ask the hub"))
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "model").symlink_to(base)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name("org/model")
    assert not locate("org/model").is_from_hub
    assert not calls


def test_a_hub_name_gives_the_downloaded_folder_and_fetches_no_pickle(hub, base):
    calls = hub(base)
    found = locate("org/model")
    assert (found.name, found.folder, found.is_from_hub) == ("org/model", base, True)
    assert calls[0]["local_files_only"] is False
    assert "*.safetensors" in calls[0]["allow_patterns"]
    assert not [pattern for pattern in calls[0]["allow_patterns"] if "bin" in pattern or "py" in pattern]


def test_pickles_are_fetched_only_where_they_are_allowed(hub, base):
    calls = hub(base)
    locate("org/model", allow_pickle=True)
    assert "*.bin" in calls[0]["allow_patterns"]


def test_code_is_fetched_where_it_is_allowed_to_run(hub, base):
    calls = hub(base)
    locate("org/model", allow_remote_code=True)
    assert "*.py" in calls[0]["allow_patterns"]


def test_offline_looks_into_the_cache_only(hub, base):
    calls = hub(base)
    locate("org/model", offline=True)
    assert calls[0]["local_files_only"] is True


def test_a_name_unknown_offline_comes_with_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        EnvironmentFault,
        match=r"'nobody/no-such-model-here' is no local folder and --offline is set and it is not in the cache. "
        r"Where there is a network, run: hf download nobody/no-such-model-here",
    ):
        locate("nobody/no-such-model-here", offline=True)


def test_an_unreachable_hub_comes_with_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # HF_HUB_OFFLINE is set for all tests
    with pytest.raises(
        EnvironmentFault, match=r"the hub cannot be reached. Where there is a network, run: hf download"
    ):
        locate("nobody/no-such-model-here")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (http_error(errors.GatedRepoError), r"Model 'org/model' is gated. Ask for access .* run: hf auth login"),
        (
            http_error(errors.RepositoryNotFoundError),
            r"Model 'org/model' was not found on the hub, or you may not see it. .* hf auth login",
        ),
        (errors.LocalEntryNotFoundError("no"), r"the hub cannot be reached. .* run: hf download org/model"),
        (
            http_error(errors.HfHubHTTPError, "429 Client Error: too many requests\nlong page"),
            r"could not be downloaded: 429 Client Error: too many requests. Try again: hf download org/model",
        ),
        (http_error(errors.RevisionNotFoundError), r"could not be downloaded: the server said no. Try again"),
        (OSError(28, "No space left on device"), r"could not be downloaded: .*No space left on device"),
        (ConnectionResetError("reset by peer"), r"could not be downloaded: reset by peer"),
    ],
    ids=["gated", "missing or private", "unreachable", "rate limit", "revision", "disk full", "reset"],
)
def test_what_goes_wrong_with_the_hub_is_the_fault_of_the_environment(hub, error, message):
    calls = hub(error)
    with pytest.raises(EnvironmentFault, match=message) as caught:
        locate("org/model")
    assert caught.value.exit_code == 5
    assert len(calls) == 1  # asked once: nothing is retried


def test_a_broken_proxy_is_the_fault_of_the_environment(hub):
    client = pytest.importorskip("httpx2")  # huggingface_hub lets this one through, and it is no OSError
    hub(client.ProxyError("503 from the proxy"))
    with pytest.raises(EnvironmentFault, match=r"could not be downloaded: 503 from the proxy"):
        locate("org/model")


@pytest.mark.parametrize("name", ["org/model-", "foo..bar/x", "a--b/c", "x" * 97])
def test_a_name_the_hub_cannot_have_is_refused_in_words(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match=r"is no folder here, and no name the hub can have. Expected a folder or org/mod"
    ):
        locate(name)
