"""An audit on a model's public page: between its marks, nothing else changed, nothing private said."""

from __future__ import annotations

import re
import types

import hypothesis.strategies as st
import pytest
import yaml
from huggingface_hub import ModelCard, errors
from hypothesis import given
from test_report_page import make_result, make_run, model, synthetic_scores

from loraudit.errors import ConfigError, EnvironmentFault
from loraudit.integrations.card import (
    BEGIN,
    END,
    TASK_NAME,
    card_section,
    eval_result,
    with_eval_result,
    with_section,
)
from loraudit.integrations.card_push import card_change, push_card
from loraudit.spec import AuditSpec, Gate, ValidityResult, spec_hash
from loraudit.store import read_run

REPOSITORY = "ada/tuned"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_PlantedTokenThatNobodyMaySee"
FOLDER = "/data/clinic-of-dr-planted"
CARD = """---
license: apache-2.0
# said by hand
tags:
- lora
---
# Tuned

What it is for.
"""


def gates(status="passed"):
    gate = Gate(name="bag_of_words", kind="blind", status=status, summary="Words.", reason=f"as in '{FOLDER}/a.jsonl'")
    return ValidityResult(gates=[gate], strongest_blind="bag_of_words")


def result(**changes):
    scores, is_member = synthetic_scores()
    return make_result(scores, is_member, validity=gates(), **changes)


@pytest.fixture
def audit(tmp_path):
    """The folder of an audit of a planted folder, by a command that names more of them."""

    def made(**changes):
        scores, is_member = synthetic_scores()
        spec = AuditSpec(
            model=f"{FOLDER}/adapter",
            members=(f"{FOLDER}/planted members.jsonl",),
            nonmembers="planted-rest.jsonl",
            subgroup_field="planted_column",
            span="all",
            attacks=("loss",),
            resamples=400,
            include_text=True,
            out=f"{FOLDER}/out",
        )
        values = {
            "spec": spec,
            "spec_hash": spec_hash(spec),
            "command": f"loraudit audit {FOLDER}/adapter --members '{FOLDER}/planted members.jsonl' # {TOKEN}",
            "target": model(f"{FOLDER}/adapter"),
            "reference": model(f"{FOLDER}/base"),
            "validity": gates(),
        }
        found = make_result(scores, is_member, **(values | changes))
        return make_run(tmp_path / "run", found, scores, is_member)

    return made


class Hub:
    """A hub with one card; remembers what was pushed."""

    def __init__(self, folder, card=CARD, *, on_read=None, on_push=None):
        self.folder, self.card, self.on_read, self.on_push = folder, card, on_read, on_push
        self.pushed = []

    def repo_info(self, repo_id, *, timeout):
        if self.on_read is not None:
            raise self.on_read
        return types.SimpleNamespace(sha=COMMIT)

    def hf_hub_download(self, repo_id, filename, *, revision):
        if self.card is None:
            raise errors.EntryNotFoundError("no such file")
        if isinstance(self.card, Exception):
            raise self.card
        path = self.folder / "README.md"
        path.write_bytes(self.card if isinstance(self.card, bytes) else self.card.encode())
        return str(path)

    def upload_file(self, **given):
        if self.on_push is not None:
            raise self.on_push
        self.pushed.append(given)
        return types.SimpleNamespace(pr_url="https://hub.example/pr/1", commit_url="https://hub.example/c/1")


# --- marks --------------------------------------------------------------------------------------------

words = st.text(alphabet="ab# \n-|`é", max_size=60)


@given(words, words, words, words)
def test_pushing_again_replaces_the_section_and_keeps_all_else(before, after, first, second):
    one = with_section(before, first) + after
    two = with_section(one, second)
    start, end = one.index(BEGIN), one.index(END)
    assert one.startswith(before)
    assert two.startswith(one[:start])
    assert two.endswith(one[end:])
    assert two == with_section(before, second) + after
    assert with_section(two, second) == two


@given(words, words)
def test_a_section_stands_whole_between_its_marks(card, section):
    made = with_section(card, section)
    inside = made.partition(BEGIN)[2].partition(END)[0]
    assert inside.split() == section.split()
    assert (made.count(BEGIN), made.count(END)) == (1, 1)


def test_a_card_keeps_the_line_ends_it_has():
    made = with_section("# A\r\n", "one\ntwo\n")
    assert made.count("\n") == made.count("\r\n") == 6


@pytest.mark.parametrize("card", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"])
def test_marks_that_do_not_fit_together_are_left_to_a_person(card):
    with pytest.raises(ConfigError, match=r"marks that begin loraudit's section.*Mend the card by hand"):
        with_section(card, "new")


# --- metadata -----------------------------------------------------------------------------------------


def header_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_headline_becomes_an_entry_that_the_hubs_own_library_reads():
    found = result()
    auc = found.membership.attack("error_zone").findings["auc"]
    card, reason = with_eval_result(CARD, eval_result(found), model="tuned")
    assert reason is None
    read = ModelCard(card).data.eval_results
    assert [(one.task_type, one.metric_type) for one in read] == [
        ("text-generation", kind) for kind in ("membership_auc", "membership_auc_lower", "membership_auc_upper")
    ]
    assert [one.metric_value for one in read] == [round(v, 4) for v in (auc.value, auc.lower, auc.upper)]
    assert read[0].dataset_args == {"n_members": 300, "n_nonmembers": 250}


def test_only_the_lines_of_model_index_change_and_a_second_time_replaces_the_first():
    first, _ = with_eval_result(CARD, eval_result(result()), model="tuned")
    start, _, rest = CARD.partition("---\n# Tuned")
    assert first.startswith(start)
    assert first.endswith("---\n# Tuned" + rest)
    scores, is_member = synthetic_scores(shift=0.2)
    weaker = make_result(scores, is_member, validity=gates())
    second, _ = with_eval_result(first, eval_result(weaker), model="tuned")
    assert len(header_of(second)["model-index"][0]["results"]) == 1
    assert second != first
    again, reason = with_eval_result(second, eval_result(weaker), model="tuned")
    assert (again, reason) == (second, None)
    assert with_eval_result(second, None, model="tuned") == (CARD, None)


def test_results_of_others_and_what_stands_around_them_stay():
    others = """---
model-index:
- name: theirs
  results:
  - task: {type: text-generation}
    dataset: {type: wikitext, name: WikiText}
    metrics:
    - {type: perplexity, value: 9.5}
# said by hand
license: mit
---
text
"""
    made, reason = with_eval_result(others, eval_result(result()), model="tuned")
    assert reason is None
    (index,) = header_of(made)["model-index"]
    assert index["name"] == "theirs"
    assert index["results"][0]["dataset"]["name"] == "WikiText"
    assert index["results"][1]["task"]["name"] == TASK_NAME
    assert made.endswith("# said by hand\nlicense: mit\n---\ntext\n")
    back, _ = with_eval_result(made, None, model="tuned")
    assert header_of(back) == header_of(others)


def test_a_card_without_a_header_gets_one_and_loses_it_not_its_text():
    made, _ = with_eval_result("# Tuned\n", eval_result(result()), model="tuned")
    assert made.startswith("---\nmodel-index:\n")
    assert made.endswith("---\n\n# Tuned\n")
    assert with_eval_result("", None, model="tuned") == ("", None)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a: [", "cannot be parsed"),
        ("just words", "no table of keys"),
        ("model-index: 3", "not in the hub's form"),
        ("model-index:\n- name: a\n  results:\n  - task: none", "not in the hub's form"),
        ("{license: mit}", "cannot be changed in one place"),
    ],
)
def test_a_header_in_another_form_is_left_alone_and_said(header, reason):
    card = f"---\n{header}\n---\ntext\n"
    made, said = with_eval_result(card, eval_result(result()), model="tuned")
    assert made == card
    assert reason in said


def test_a_number_is_quoted_only_where_it_may_be():
    good = result()
    assert eval_result(good) is not None
    assert eval_result(good.model_copy(update={"validity": gates("failed")})) is None
    assert eval_result(good.model_copy(update={"validity": None})) is None
    unscored = good.members.model_copy(update={"status": {"ok": 250, "nonfinite": 50}})
    assert eval_result(good.model_copy(update={"members": unscored})) is None


# --- row 25: what is private --------------------------------------------------------------------------


def test_no_path_column_id_or_credential_is_on_the_page(audit, tmp_path):
    folder = audit()
    change = card_change(folder, REPOSITORY, hub=Hub(tmp_path))
    for secret in ("planted", TOKEN, "/data", "secret words", "my-base", ".jsonl"):
        assert secret not in change.after
    shown = set(read_run(folder).scores.column("id").to_pylist())
    assert not shown & set(re.findall(r"[0-9a-f]{24}", change.after))
    command = next(line for line in change.after.splitlines() if "loraudit audit" in line)
    asked = "--subgroup-field … --members … --nonmembers … --span all --attacks loss --resamples 400"
    assert command.endswith(f"`loraudit audit ada/tuned {asked}`")


def test_a_gate_that_failed_is_said_without_the_file_it_names(audit, tmp_path):
    change = card_change(audit(validity=gates("failed")), REPOSITORY, hub=Hub(tmp_path))
    assert "validity gate failed" in change.after
    assert "'a.jsonl'" in change.after
    assert FOLDER not in change.after
    assert any("No number is put into the card's metadata" in note for note in change.notes)
    assert "model-index" not in change.after


def test_a_public_base_is_named():
    section = card_section(result(reference=model("org/base")), REPOSITORY)
    assert "Reference: `org/base`" in section


def test_a_section_cannot_end_itself():
    scores, is_member = synthetic_scores(names=(f"a {END}", "loss"))
    made = make_result(scores, is_member, validity=gates())
    section = card_section(made, REPOSITORY)
    assert END not in section
    assert with_section(with_section("", section), section) == with_section("", section)


# --- the hub ------------------------------------------------------------------------------------------


def test_a_push_is_a_pull_request_on_what_was_read(audit, tmp_path):
    hub = Hub(tmp_path)
    change = card_change(audit(), REPOSITORY, hub=hub)
    assert hub.pushed == []
    assert push_card(change, hub=hub) == "https://hub.example/pr/1"
    (pushed,) = hub.pushed
    assert (pushed["create_pr"], pushed["parent_commit"], pushed["repo_id"]) == (True, COMMIT, REPOSITORY)
    assert (pushed["path_in_repo"], pushed["path_or_fileobj"]) == ("README.md", change.after.encode())
    assert change.after.endswith(f"{END}\n")
    assert "## Privacy: membership audit" in change.after
    assert "What it is for." in change.after
    assert "+## Privacy: membership audit" in change.diff.splitlines()


def test_to_the_main_branch_only_when_asked_and_the_second_push_has_nothing_to_do(audit, tmp_path):
    folder, hub = audit(), Hub(tmp_path)
    change = card_change(folder, REPOSITORY, hub=hub)
    assert push_card(change, create_pr=False, hub=hub) == "https://hub.example/c/1"
    assert hub.pushed[0]["create_pr"] is False
    hub.card = change.after
    again = card_change(folder, REPOSITORY, hub=hub)
    assert push_card(again, hub=hub) is None
    assert len(hub.pushed) == 1


def test_a_model_without_a_card_gets_one(audit, tmp_path):
    change = card_change(audit(), REPOSITORY, hub=Hub(tmp_path, None))
    assert change.before == ""
    assert ModelCard(change.after).data.eval_results
    assert change.after.count(BEGIN) == 1


def test_a_run_of_another_model_is_pointed_out(audit, tmp_path):
    change = card_change(audit(target=model("org/other")), REPOSITORY, hub=Hub(tmp_path))
    assert "The run audited 'org/other'. Check that 'ada/tuned' is the same model." in change.notes


@pytest.mark.parametrize("name", ["tuned", "a/b/c", "https://hub.example/a/b", "a/", ""])
def test_a_name_in_another_form_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=r"is no name of a model\. Expected OWNER/NAME"):
        card_change(tmp_path, name, hub=Hub(tmp_path))


def test_a_card_that_is_no_text_is_refused(audit, tmp_path):
    with pytest.raises(ConfigError, match=r"is not written in UTF-8\..*Save it as UTF-8"):
        card_change(audit(), REPOSITORY, hub=Hub(tmp_path, b"\xff\xfe"))


def answered(kind, status, **headers):
    response = types.SimpleNamespace(status_code=status, headers=headers, request=None)
    return kind("no", response=response)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            answered(errors.HfHubHTTPError, 401),
            "could not be read: the hub does not accept your token. Run: hf auth login",
        ),
        (answered(errors.GatedRepoError, 403), "is gated. Ask for access on its page, then run: hf auth login"),
        (answered(errors.RepositoryNotFoundError, 404), "was not found on the hub, or you may not see it"),
        (
            answered(errors.HfHubHTTPError, 429),
            "rate limit is reached.*Wait a few minutes, then run: loraudit report RUN",
        ),
        (answered(errors.HfHubHTTPError, 503), "the hub is out of order .503."),
        (errors.OfflineModeIsEnabled("off"), "HF_HUB_OFFLINE is set. Unset it, then run: loraudit report RUN"),
        (OSError("no route"), "no route. Where there is a network, run: loraudit report RUN --push-to-hub ada/tuned"),
    ],
)
def test_a_hub_that_cannot_be_asked_is_told_in_words(error, said, audit, tmp_path):
    with pytest.raises(EnvironmentFault, match=said):
        card_change(audit(), REPOSITORY, hub=Hub(tmp_path, on_read=error))


def test_a_card_that_could_not_be_fetched_is_never_taken_for_none(audit, tmp_path):
    with pytest.raises(EnvironmentFault, match="could not be read: connection lost"):
        card_change(audit(), REPOSITORY, hub=Hub(tmp_path, errors.LocalEntryNotFoundError("connection lost")))


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            answered(errors.HfHubHTTPError, 403),
            EnvironmentFault,
            "does not let you write to it. Make a token that may write to it, then run: hf auth login",
        ),
        (answered(errors.HfHubHTTPError, 412), EnvironmentFault, "it was changed there since it was read. Run again"),
        (ValueError("license is unknown"), ConfigError, "does not accept the metadata.*license is unknown.*by hand"),
        (OSError(f"lost {TOKEN}"), EnvironmentFault, r"could not be pushed: lost \*\*\*"),
    ],
)
def test_a_push_that_fails_is_told_in_words(error, kind, said, audit, tmp_path):
    change = card_change(audit(), REPOSITORY, hub=Hub(tmp_path))
    with pytest.raises(kind, match=said):
        push_card(change, hub=Hub(tmp_path, on_push=error))
