"""From grids to cells: names, labels, settings, constraints, what is shared, and everything that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraudit.errors import ConfigError
from loraudit.spec import AuditSpec, StudySpec, make_request, spec_hash
from loraudit.study import expand, parse_settings, read_study, study_path
from loraudit.study.cells import cell_path, label_of
from loraudit.study.kinds import placed
from loraudit.study.request import store_path
from loraudit.study.sharing import n_sharing, never_at_once, next_wave, shared_work

AUDIT = {"members": "m.jsonl", "nonmembers": "n.jsonl", "base": "b"}
CONTRAST = {"base": "b", "data": "d.jsonl"}


def study(*grids, **keys) -> StudySpec:
    return make_request(StudySpec, {"name": "s", "grids": list(grids), **keys})


def grid(name="g", run="audit", settings=None, **keys) -> dict:
    own = {"audit": AUDIT, "contrast": CONTRAST}.get(run, {})
    return {"name": name, "run": run, "settings": {**own, **(settings or {})}, **keys}


def refused(*grids, **keys) -> str:
    with pytest.raises(ConfigError) as caught:
        expand(study(*grids, **keys))
    return str(caught.value)


# --- values, labels, names ----------------------------------------------------------------------------


def test_cells_are_every_combination_in_the_order_it_is_written():
    cells = expand(study(grid(axes={"model": ["x", "y"], "seed": [0, 1, 2]})))
    assert [(c.labels["model"], c.labels["seed"]) for c in cells] == [(m, s) for m in "xy" for s in "012"]
    assert [c.request.seed for c in cells] == [0, 1, 2] * 2
    assert all(isinstance(c.request, AuditSpec) for c in cells)


def test_a_grid_without_axes_is_one_cell():
    (cell,) = expand(study(grid(settings={"model": "x"})))
    assert cell.labels == {}
    assert cell.words == "Grid 'g'"


def test_labelled_values_set_several_fields_and_later_settings_win():
    axes = {"size": {"small": {"max-records": 10, "seed": 1}, "large": {"max_records": 1000}}, "model": ["x"]}
    cells = expand(study(grid(settings={"seed": 5, "max_records": 3}, axes=axes), settings={"seed": 7, "fdr": 0.1}))
    assert [(c.labels, c.request.max_records, c.request.seed, c.request.fdr) for c in cells] == [
        ({"size": "small", "model": "x"}, 10, 1, 0.1),
        ({"size": "large", "model": "x"}, 1000, 5, 0.1),
    ]


def test_a_cell_is_named_by_what_it_asks():
    (cell,) = expand(study(grid(settings={"model": "x"})))
    asked = make_request(AuditSpec, {**AUDIT, "model": "x"})
    assert cell.id == spec_hash(asked)[:12]
    assert cell_path(Path("runs/s"), cell) == Path(f"runs/s/cells/audit-{cell.id}")
    request = placed(cell.request, Path("runs/s/cells/a"), Path("evidence"))
    assert (request.out, request.store) == ("runs/s/cells/a", "evidence")
    assert spec_hash(request)[:12] == cell.id


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (["full", "lora:8"], "full+lora:8"),
        ([], "none"),
        (True, "true"),
        (None, "null"),
        (1e-05, "1e-05"),
        ({"b": 1, "a": 2}, '{"a": 2, "b": 1}'),
        ("x" * 60, "x" * 60),
    ],
)
def test_labels_are_short_and_say_the_value(value, label):
    assert label_of(value) == label


def test_long_labels_are_cut_and_still_differ():
    one, other = label_of("x" * 90 + "a"), label_of("x" * 90 + "b")
    assert one != other
    assert max(len(one), len(other)) <= 60


def test_two_grids_that_ask_the_same_share_the_cell_of_the_first():
    cells = expand(study(grid("one", axes={"model": ["x", "y"]}), grid("two", axes={"model": ["y", "z"]})))
    assert [(c.grid, c.request.model) for c in cells] == [("one", "x"), ("one", "y"), ("two", "z")]


def test_settings_of_the_study_reach_the_commands_that_have_them():
    cells = expand(
        study(grid("a", settings={"model": "x"}), grid("c", "contrast"), settings={"epochs": 5, "resamples": 300})
    )
    assert [c.request.resamples for c in cells] == [300, 300]
    assert cells[1].request.epochs == 5


# --- constraints --------------------------------------------------------------------------------------


def test_exclude_leaves_out_and_only_keeps():
    axes = {"model": ["x", "y"], "seed": [0, 1, 2]}
    cells = expand(study(grid(axes=axes, exclude=[{"model": "x", "seed": [0, 1]}])))
    assert [(c.labels["model"], c.labels["seed"]) for c in cells] == [("x", "2"), ("y", "0"), ("y", "1"), ("y", "2")]
    cells = expand(study(grid(axes=axes, only=[{"model": "x", "seed": 1}, {"seed": "2"}], exclude=[{"model": "y"}])))
    assert [(c.labels["model"], c.labels["seed"]) for c in cells] == [("x", "1"), ("x", "2")]


def test_a_list_is_matched_by_its_label():
    axes = {"methods": [["full"], ["full", "head"]]}
    cells = expand(study(grid(run="contrast", axes=axes, exclude=[{"methods": "full+head"}])))
    assert [c.labels for c in cells] == [{"methods": "full"}]


# --- what is wrong ------------------------------------------------------------------------------------


def test_everything_that_is_wrong_with_any_cell_is_said_at_once():
    said = refused(
        grid("a", axes={"model": ["x", "y"], "fpr": [0.1, 7]}, exclude=[{"modle": "x"}, {"model": "z"}]),
        grid("a", "contrast", settings={"epochs": 0, "rank": 3}),
        grid("b", axes={"model": []}),
        settings={"epoch": 1},
    ).splitlines()
    assert said == [
        "Grid name 'a' stands 2 times. Expected a name of its own for each grid.",
        "Settings of the study: Unknown key 'epoch'. Did you mean 'epochs'?",
        "Grid 'a', exclude: Unknown axis 'modle'. Did you mean 'model'? Known: fpr, model.",
        "Grid 'a', exclude: Unknown label of axis 'model' 'z'. Known: x, y.",
        "Grid 'a', model=x, fpr=7 and 1 more cell: 'fpr' has the value 7. Expected less than or equal to 1.",
        "Grid 'a': 'epochs' has the value 0. Expected greater than or equal to 1.",
        "Grid 'a': Unknown key 'rank'. See: loraudit contrast --help",
        "Grid 'b', axis 'model' has no values. Expected at least one.",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"model": "x", "out": "o"}}, "Grid 'g', settings: 'out' is given by the study. Expected it as"),
        ({"axes": {"model": ["x"], "a": {"b": {"store": "s"}}}}, "Grid 'g', axis 'a': 'store' is given by the study."),
        ({"settings": {"max-records": 1, "max_records": 2}}, "Grid 'g', settings: 'max_records' is given twice."),
        ({"axes": {"model": ["x", "x"]}}, "Grid 'g', axis 'model': value x is given twice. Leave one out."),
        (
            {"axes": {"seed": [1], "model": ["x"], "a": {"b": {"seed": 2}}}},
            "Grid 'g', axis 'a' sets 'seed', which axis 'seed' sets too. Leave one of them out.",
        ),
        (
            {"axes": {"model": ["x"]}, "exclude": [{"model": "x"}]},
            "Grid 'g' has no cell left after exclude and only. Loosen them, or leave it out.",
        ),
        ({"axes": {"seed": [0]}}, "Grid 'g': 'model' is missing."),
        (
            {"settings": {"model": "x"}, "axes": {"device": ["cpu", "cuda"]}},
            (
                "Grid 'g', device=cpu and Grid 'g', device=cuda ask the same but for 'device', which does not change "
                "what is found. Expected one of them; leave the other out."
            ),
        ),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(changes, message):
    assert message in refused(grid(**changes))


def test_the_same_request_with_other_limits_is_not_silently_one_of_them():
    said = refused(
        grid("a", settings={"model": "x"}), grid("b", settings={"model": "x", "fail_on": "membership.auc.value > 0.6"})
    )
    assert said.startswith("Grid 'a' and Grid 'b' ask the same but for 'fail_on'")


def test_a_key_of_another_command_is_let_pass_from_the_study_alone():
    grids = grid("a", settings={"model": "x"}), grid("c", "contrast")
    assert len(expand(study(*grids, settings={"epochs": 5}))) == 2
    assert refused(grids[0], settings={"epochs": 5}) == "Settings of the study: Unknown key 'epochs'."
    assert "Unknown key 'epochs'" in refused(grid("a", settings={"model": "x", "epochs": 5}), grids[1])
    assert "'store' is given by the study" in refused(*grids, settings={"store": "x"})


# --- files --------------------------------------------------------------------------------------------


def test_a_study_is_read_from_every_kind_of_file(tmp_path):
    values = {"name": "s", "settings": {"seed": 2}, "grids": [grid(axes={"model": ["x"]})]}
    (tmp_path / "s.json").write_text(json.dumps(values))
    (tmp_path / "s.yaml").write_text(
        "name: s\nsettings: {seed: 2}\ngrids:\n- name: g\n  run: audit\n"
        "  settings: {members: m.jsonl, nonmembers: n.jsonl, base: b}\n  axes: {model: [x]}\n"
    )
    (tmp_path / "s.toml").write_text(
        'name = "s"\nsettings = {seed = 2}\n[[grids]]\nname = "g"\nrun = "audit"\n'
        'settings = {members = "m.jsonl", nonmembers = "n.jsonl", base = "b"}\naxes = {model = ["x"]}\n'
    )
    read = [read_study(str(tmp_path / name)) for name in ("s.json", "s.yaml", "s.toml")]
    assert read[0] == read[1] == read[2]
    assert {spec_hash(one) for one in read} == {spec_hash(study(*values["grids"], settings={"seed": 2}))}


def test_flags_win_over_the_file_and_settings_are_added(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"name": "s", "settings": {"seed": 2, "fdr": 0.2}, "grids": [grid()], "workers": 3}))
    spec = read_study(str(path), {"settings": {"seed": 9}, "workers": 1, "out": "here"})
    assert (spec.settings, spec.workers) == ({"seed": 9, "fdr": 0.2}, 1)
    assert (study_path(spec), store_path(spec)) == (Path("here"), Path("here/store"))
    assert study_path(read_study(str(path))).name == f"study-{spec_hash(read_study(str(path)))[:12]}"


def test_how_a_study_is_carried_out_and_shown_is_no_part_of_what_it_asks():
    figure = {"grid": "g", "finding": "auc", "value": 0.9, "source": "A paper"}
    one = study(grid())
    other = study(grid(), engine="ray", workers=5, shard="1/2", out="o", store="s", description="d", published=[figure])
    assert spec_hash(one) == spec_hash(other)
    assert spec_hash(one) != spec_hash(study(grid(settings={"seed": 1})))


def test_settings_are_toml_values_and_bare_words():
    said = [
        "seeds=2",
        "methods=['full', 'lora:8']",
        "device=cpu",
        "max-records = 5",
        "fail_on=a > 0.5",
        "append_eos=true",
    ]
    assert parse_settings(said) == {
        "seeds": 2, "methods": ["full", "lora:8"], "device": "cpu", "max_records": 5, "fail_on": "a > 0.5",
        "append_eos": True,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"--set 'seeds' is no setting\. Expected KEY=VALUE.*\n--set '=2' is no"):
        parse_settings(["seeds", "=2", "a=1"])


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        (
            {"grids": [{"name": "g", "run": "audits", "axis": {}}], "names": 1},
            [
                "Grid 1 ('g'): 'run' has the value 'audits'. Expected 'audit', 'contrast', 'robustness' or 'forecast'.",
                "Grid 1 ('g'): Unknown key 'axis'. Did you mean 'axes'?",
                "'name' is missing. Give it as a flag or as a key of the spec file.",
                "Unknown key 'names'. Did you mean 'name'? See: loraudit study --help",
            ],
        ),
        ({"name": "s"}, ["'grids' is missing or empty. Expected one or more, such as [[grids]] in TOML."]),
        ({"name": "s", "grids": 3}, ["'grids' has the value 3. Expected a list of tables"]),
        ({"name": "s", "grids": [{"run": "audit"}]}, ["Grid 1: 'name' is missing."]),
        (
            {"name": "s", "grids": [grid()], "published": [{"grid": "g", "finding": "f", "value": "x"}]},
            ["Published figure 1 ('f'): 'value' has the value 'x'.", "Published figure 1 ('f'): 'source' is missing."],
        ),
        ({"name": "s", "grids": [grid()], "settings": 3}, ["'settings' has the value 3. Expected"]),
    ],
)
def test_everything_that_is_wrong_with_a_file_is_said_at_once(values, messages, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError) as caught:
        read_study(str(tmp_path / "s.json"))
    for message in messages:
        assert message in str(caught.value)


def test_a_file_that_is_not_there_and_a_name_that_is_no_preset_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Study file '.*nowhere\.toml' cannot be read: No such file"):
        read_study(str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match=r"Study 'nothing-like-it' is neither a file nor a preset\. Expected a "):
        read_study("nothing-like-it")


def test_a_preset_is_read_by_its_name_and_the_nearest_ones_are_named():
    from loraudit.study.presets import preset_names

    name = preset_names()[0]
    assert expand(read_study(name))
    with pytest.raises(ConfigError, match=rf"neither a file nor a preset\. Did you mean .*'{name}'"):
        read_study(name + "x")


def test_the_study_in_the_docs_is_one(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    block = page.split("```toml\n")[1].split("```")[0]
    (tmp_path / "study.toml").write_text(block, encoding="utf-8")
    spec = read_study(str(tmp_path / "study.toml"))
    assert [(grid.name, grid.run) for grid in spec.grids] == [("leakage", "contrast"), ("poisons", "robustness")]
    assert [(cell.grid, tuple(cell.labels.values())) for cell in expand(spec)] == [
        ("leakage", ("0", "small")),
        ("leakage", ("0", "large")),
        ("leakage", ("1", "small")),
        ("poisons", ("label_flip:doses=0.05+0.2",)),
        ("poisons", ("rare_words:doses=4+16",)),
    ]


# --- what cells share ---------------------------------------------------------------------------------


def waves(cells) -> list[list[str]]:
    """Labels of each wave, when every cell succeeds."""
    left, made, found = list(cells), set(), []
    while left:
        wave = next_wave(left, made)
        found.append(["/".join(cell.labels.values()) for cell in wave])
        made |= {name for cell in wave for name in shared_work(cell)}
        left = [cell for cell in left if cell not in wave]
    return found


def test_cells_on_one_base_wait_for_the_first_of_them():
    cells = expand(study(grid(axes={"model": ["x", "y", "z"]})))
    assert waves(cells) == [["x"], ["y", "z"]]
    assert n_sharing(cells) == 2


def test_cells_on_other_bases_or_records_go_at_once():
    cells = expand(study(grid(axes={"base": ["b", "c"], "model": ["x", "y"]})))
    assert waves(cells) == [["b/x", "c/x"], ["b/y", "c/y"]]


def test_a_cell_that_needs_the_same_target_waits_for_it():
    cells = expand(study(grid(axes={"model": ["x", "y"], "headline": ["loss", "ratio"]})))
    assert waves(cells) == [["x/loss"], ["x/ratio", "y/loss"], ["y/ratio"]]


def test_of_a_cell_that_failed_nothing_is_taken_and_the_next_goes_first():
    x, y, z = expand(study(grid(axes={"model": ["x", "y", "z"]})))
    assert next_wave([x, y, z], set()) == [x]
    assert next_wave([y, z], set()) == [y]
    assert next_wave([z], shared_work(y)) == [z]


def test_an_adapter_is_known_by_the_base_it_records(tmp_path):
    for name, base in (("a", "b1"), ("b", "b1"), ("c", "b2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    models = {name: {"model": str(tmp_path / name)} for name in "abc"}
    files = {"members": "m.jsonl", "nonmembers": "n.jsonl"}
    cells = expand(study({"name": "g", "run": "audit", "settings": files, "axes": {"which": models}}))
    assert waves(cells) == [["a", "c"], ["b"]]


def test_contrasts_that_would_keep_the_same_shadow_models_never_run_at_once():
    methods = {"one": {"methods": ["full"]}, "two": {"methods": ["full", "head"]}, "three": {"methods": ["lora:4"]}}
    cells = expand(study(grid(run="contrast", settings={"shadow": 4}, axes={"m": methods})))
    one, two, three = cells
    assert never_at_once(one) & never_at_once(two)
    assert not never_at_once(one) & never_at_once(three)
    made = {name for cell in cells for name in shared_work(cell)}
    assert next_wave(cells, made) == [one, three]
    without = expand(study(grid(run="contrast", axes={"m": methods})))
    assert next_wave(without, made) == without
    assert waves(expand(study(grid(run="contrast", axes={"seed": [0, 1]})))) == [["0", "1"]]


@pytest.mark.parametrize(
    ("given", "label"), [(0, "0"), (0.5, "0.5"), (True, "true"), ("a", "a"), (["full", "lora:8"], "full+lora:8")]
)
def test_cells_of_published_figures_are_named_as_axes_label_them(given, label):
    figure = {"grid": "g", "cell": {"seed": given}, "finding": "f", "value": 1.0, "source": "A paper"}
    assert study(grid(), published=[figure]).published[0].cell == {"seed": label}
