"""Sides that differ in kind, repeat each other or share documents: said before any number of the attack."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from loraudit.report import FORMATS
from loraudit.store import read_run

BANNER = "Not valid as it stands"


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sides_of(folder, members, nonmembers):
    """Two files of rows; a text alone is a row."""
    rows = [[row if isinstance(row, dict) else {"text": row} for row in side] for side in (members, nonmembers)]
    return jsonl(folder / "m.jsonl", rows[0]), jsonl(folder / "n.jsonl", rows[1])


@pytest.fixture
def run(command, adapter, tmp_path):
    """Audit two sides with the headline attack alone: exit code, standard output, `result.json`, the page."""

    def audited(sides, *words):
        code, out, err = command(
            "audit", adapter, "--members", sides[0], "--nonmembers", sides[1], *words,
            "--attacks", "error_zone", "--resamples", 200, "-q", "-o", tmp_path / "run",
        )  # fmt: skip
        assert "Traceback" not in err
        result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
        return code, out, result, (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    return audited


@pytest.fixture
def shifted(texts, tmp_path):
    """Members that are letters of one house, non-members as they come: told apart by anyone who reads them."""
    members = [f"INTERNAL MEMO 2019/{i:02d}. {text}" for i, text in enumerate(texts[:60])]
    return sides_of(tmp_path, members, texts[60:])


def gates(result):
    return {gate["name"]: gate for gate in result["validity"]["gates"]}


# --- row 16: members and non-members of different kinds -----------------------------------------------


def test_a_report_on_sides_of_different_kinds_leads_with_that(shifted, run):
    code, out, result, page = run(shifted)
    assert code == 0, "a failed gate alone is no failed audit"
    assert gates(result)["bag_of_words"]["status"] == "failed"
    assert out.splitlines()[0] == BANNER
    assert out.splitlines()[1].startswith(("1 validity gate failed", "2 validity gates failed", "3 validity gates"))
    body = page[page.index("<body>") :]
    places = [body.index(words) for words in (BANNER, 'aria-label="Verdict"', "<ul", "<svg", "<table")]
    assert places == sorted(places)
    assert places[0] < body.index(result["verdict"]["sentence"].split(";")[0])
    for warning in ("bag_of_words: AUC ", "Draw both sides from one source, at random, whole documents at a time"):
        assert warning in " ".join(out.split())
        assert warning in body


def test_the_headline_on_sides_of_different_kinds_is_the_attack_minus_what_needs_no_target(shifted, run):
    _, out, result, page = run(shifted)
    validity = result["validity"]
    headline = result["membership"]["attacks"][0]["findings"]["auc"]
    blind = gates(result)[validity["strongest_blind"]]["finding"]
    assert validity["strongest_blind"] == "bag_of_words"
    assert blind["value"] > 0.9
    minus = validity["headline_minus_blind"]["auc"]
    assert minus["value"] == pytest.approx(headline["value"] - blind["value"])
    assert minus["lower"] < minus["value"] < minus["upper"] <= 0.1
    verdict = result["verdict"]
    assert verdict["level"] == "not_seen"
    assert verdict["heading"].startswith("The sides differ in kind; ")
    assert verdict["sentence"].startswith(
        f"Headline: error_zone minus bag_of_words, which never sees the target: AUC {minus['value']:+.3f} ["
    )
    assert (
        "of the attack alone holds this difference of kind too and must not be quoted as leakage" in verdict["sentence"]
    )
    for words in (out, page):
        assert verdict["heading"] in words
        assert f"AUC {minus['value']:+.3f}" in words


@pytest.mark.parametrize("how", ["policy", "both"])
def test_a_policy_may_fail_what_a_gate_failed(how, shifted, run, tmp_path):
    limit = "validity.n_failed > 0"
    (tmp_path / "policy.toml").write_text(f'fail-on = ["{limit}"]\n', encoding="utf-8")
    words = ["--policy", tmp_path / "policy.toml", *(("--fail-on", limit) if how == "both" else ())]
    code, out, result, page = run(shifted, *words)
    assert code == 1
    assert result["verdict"]["exit_code"] == 1
    assert [(one["limit"], one["status"]) for one in result["verdict"]["limits"]] == [(limit, "exceeded")]
    assert f"Limit {limit}: FAILS. measured " in out
    assert "FAILS" in page


def test_a_limit_on_the_blind_classifier_and_on_the_difference_can_be_set(shifted, run):
    limits = ("validity.bag_of_words.failed > 0", "validity.headline_minus_blind.auc.upper95 > 0.5")
    code, _, result, _ = run(shifted, *(word for limit in limits for word in ("--fail-on", limit)))
    assert code == 1
    assert [one["status"] for one in result["verdict"]["limits"]] == ["exceeded", "holds"]


def test_a_split_at_random_passes_and_nothing_is_said(texts, run, tmp_path):
    order = np.random.default_rng(3).permutation(len(texts))
    drawn = [texts[i] for i in order]
    code, out, result, page = run(sides_of(tmp_path, drawn[:60], drawn[60:]), "--fail-on", "validity.n_failed > 0")
    assert code == 0
    assert {name for name, gate in gates(result).items() if gate["status"] in {"failed", "warned"}} == set()
    assert result["validity"]["headline_minus_blind"] == {}
    assert result["verdict"]["validity"] is None
    assert BANNER not in out
    assert BANNER not in page
    assert "Can the numbers mean that?" in page


def test_every_format_on_sides_of_different_kinds_gives_the_reason(shifted, run, command, tmp_path):
    _, _, result, _ = run(shifted)
    reason = gates(result)["bag_of_words"]["reason"]
    for format_ in FORMATS:
        code, out, _ = command("report", tmp_path / "run", "--format", format_)
        assert code == 0
        assert reason in out.replace("\\", ""), format_


# --- row 15: repeats and near repeats -----------------------------------------------------------------


def test_near_repeats_across_the_sides_are_warned_of_with_their_rate(texts, run, tmp_path):
    copies = [f"{text} Signed." for text in texts[:6]]
    code, out, result, page = run(sides_of(tmp_path, texts[:60], texts[60:114] + copies))
    gate = gates(result)["near_duplicates"]
    assert code == 0
    assert gate["status"] == "warned"
    assert gate["reason"].startswith("6 of 60 non-members (10 %) do; they count as false alarms")
    assert f"Gate near_duplicates: warning. {gate['reason']}" in " ".join(out.split())
    assert gate["reason"] in page
    assert BANNER not in out, "a warning is no failure"


def test_a_passage_that_stands_in_members_too_is_warned_of(texts, run, tmp_path):
    def cut(text):
        return " ".join(text.split()[: len(text.split()) * 2 // 3])

    _, _, result, _ = run(sides_of(tmp_path, texts[:60], texts[60:110] + [cut(text) for text in texts[:10]]))
    gate = gates(result)["ngram_overlap"]
    assert gate["status"] == "warned"
    assert re.search(r"; 1\d of \d+ share 80 % or more$", gate["reason"])


@pytest.mark.parametrize("across", [False, True], ids=["one side", "both sides"])
def test_one_id_with_two_texts_is_refused_naming_both_places(across, texts, audit, adapter, tmp_path):
    members, nonmembers = (
        [{"text": text, "key": f"{side}-{i}"} for i, text in enumerate(part)]
        for side, part in (("m", texts[:60]), ("n", texts[60:]))
    )
    (nonmembers if across else members)[40]["key"] = "m-7"
    sides = sides_of(tmp_path, members, nonmembers)
    code, err = audit(adapter, *sides, "--id-field", "key")
    assert code == 3
    assert "Traceback" not in err
    assert "1 ids stand for two contents. Expected one content per id." in err
    assert f"{sides[across]}:41 has the id of {sides[0]}:8 and another content" in err
    shutil.rmtree(tmp_path / "run")
    assert audit(adapter, *sides)[0] == 0, "without the column there are no ids to disagree"


def test_every_id_with_two_texts_is_named_at_once(texts, audit, adapter, tmp_path):
    rows = [{"text": text, "key": i % 50} for i, text in enumerate(texts[:60])]
    sides = sides_of(tmp_path, rows, [{"text": text, "key": 100 + i} for i, text in enumerate(texts[60:])])
    code, err = audit(adapter, *sides, "--id-field", "key")
    assert code == 3
    assert "10 ids stand for two contents" in err
    for i in range(10):
        assert f"{sides[0]}:{51 + i} has the id of {sides[0]}:{1 + i} and another content" in err


def test_one_id_with_two_texts_is_found_where_one_of_them_is_a_repeat(texts, audit, adapter, tmp_path):
    members = [{"text": text, "key": f"m-{i}"} for i, text in enumerate(texts[:60])]
    members.append({"text": texts[0], "key": "again"})
    nonmembers = [{"text": text, "key": f"n-{i}"} for i, text in enumerate(texts[60:])]
    nonmembers[3]["key"] = "again"
    sides = sides_of(tmp_path, members, nonmembers)
    code, err = audit(adapter, *sides, "--id-field", "key")
    assert code == 3
    assert f"{sides[1]}:4 has the id of {sides[0]}:61 and another content" in err


def test_one_text_under_two_ids_is_a_repeat(texts, finished, adapter, tmp_path):
    members = [{"text": text, "key": f"m-{i}"} for i, text in enumerate([*texts[:60], texts[5]])]
    nonmembers = [{"text": text, "key": f"n-{i}"} for i, text in enumerate(texts[60:])]
    result, _ = finished(adapter, *sides_of(tmp_path, members, nonmembers), "--id-field", "key")
    assert (result["members"]["n_duplicates"], result["members"]["n_records"]) == (1, 60)


def test_a_row_without_its_id_is_a_bad_row(texts, audit, adapter, tmp_path):
    members = [{"text": text, "key": f"m-{i}"} for i, text in enumerate(texts[:60])]
    del members[12]["key"]
    sides = sides_of(tmp_path, members, [{"text": text, "key": f"n-{i}"} for i, text in enumerate(texts[60:])])
    code, err = audit(adapter, *sides, "--id-field", "key")
    assert code == 3
    assert f"{sides[0]}:13: lacks the id column 'key'" in err


# --- documents and subgroups --------------------------------------------------------------------------


def in_documents(texts, name, *, size=3, **columns):
    return [{"text": text, "doc": f"{name}{i // size}"} | columns for i, text in enumerate(texts)]


def test_a_document_on_both_sides_fails_the_gate_and_leads_the_report(texts, run, tmp_path):
    nonmembers = in_documents(texts[60:], "n")
    for row in nonmembers[:4]:
        row["doc"] = "m0"
    sides = sides_of(tmp_path, in_documents(texts[:60], "m"), nonmembers)
    code, out, result, page = run(sides, "--group-field", "doc")
    gate = gates(result)["documents"]
    assert code == 0
    assert gate["status"] == "failed"
    assert gate["reason"] == "1 of 39 documents have records on both sides (7 records): give each document to one side"
    assert out.startswith(f"{BANNER}\n")
    assert gate["reason"] in page
    assert run(sides, "--group-field", "doc", "--fail-on", "validity.documents.failed > 0")[0] == 1


def test_documents_on_one_side_each_pass_and_without_a_column_the_gate_says_what_it_lacks(texts, run, tmp_path):
    sides = sides_of(tmp_path, in_documents(texts[:60], "m"), in_documents(texts[60:], "n"))
    _, _, result, _ = run(sides, "--group-field", "doc")
    assert gates(result)["documents"]["status"] == "passed"
    (tmp_path / "run").rename(tmp_path / "grouped")
    _, _, result, _ = run(sides)
    assert gates(result)["documents"]["status"] == "not_measured"
    assert "name it with --group-field" in gates(result)["documents"]["reason"]


def test_subgroups_of_a_column_and_of_repeated_records_stand_in_every_report(texts, run, command, tmp_path):
    members = [{"text": text, "tongue": ("Deutsch", "Español")[i % 2]} for i, text in enumerate(texts[:60])]
    nonmembers = [
        {"text": text, "tongue": ("Deutsch", "Español", "日本語")[i % 3]} for i, text in enumerate(texts[60:])
    ]
    repeated = [row for row in members[:30] for _ in range(2)] + [row for row in members[:12] for _ in range(4)]
    sides = sides_of(tmp_path, members + repeated, nonmembers)
    code, _, result, page = run(sides, "--subgroup-field", "tongue")
    assert code == 0
    assert result["members"]["n_duplicates"] == len(repeated)
    found = {(one["by"], one["name"]): one for one in result["membership"]["records"]["subgroups"]}
    assert {name: (one["n_members"], one["n_nonmembers"]) for (by, name), one in found.items() if by == "column"} == {
        "Deutsch": (30, 20),
        "Español": (30, 20),
    }
    assert {name: (one["n_members"], one["n_nonmembers"]) for (by, name), one in found.items() if by == "copies"} == {
        "1": (30, 60),
        "2 to 3": (18, 60),
        "4 to 15": (12, 60),
    }
    assert sum(one["n_members"] for (by, _), one in found.items() if by == "length") == 60
    run_ = read_run(tmp_path / "run")
    scores, is_member = run_.column("error_zone"), np.asarray(run_.column("is_member"), dtype=bool)
    tongue = np.array(run_.scores.column("subgroup").to_pylist())
    for name in ("Deutsch", "Español"):
        one, two = scores[is_member & (tongue == name)], scores[~is_member & (tongue == name)]
        area = (one[:, None] > two[None, :]).mean() + 0.5 * (one[:, None] == two[None, :]).mean()
        assert found["column", name]["auc"]["value"] == pytest.approx(area)
    markdown = command("report", tmp_path / "run", "--format", "markdown")[1]
    for (by, name), one in found.items():
        assert re.search(rf'<th scope="row">{by}</th><td class="words">{re.escape(name)}</td>', page)
        assert f"| {by} | {name} | {one['n_members']} + {one['n_nonmembers']} |" in markdown
    copies = {record["n_copies"] for record in result["membership"]["records"]["exposed"]}
    assert copies <= {1, 3, 7}
    assert len(copies) > 1
