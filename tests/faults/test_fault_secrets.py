"""What an audit protects and what it runs with is in no output: record text, its hashes, and credentials."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import called
from loraudit.data import masked_snippet, record_id
from loraudit.data.masking import MASKED_NUMBER, MASKED_WORD
from loraudit.membership import ATTACKS
from loraudit.report import FORMATS
from loraudit.types import Message

N_MEMBERS, N_NONMEMBERS = 20, 24
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
BANNER = "This page holds record text (--include-text)."


def planted_row(i, text):
    """A text, a prompt with its completion or a chat, in turn, each with secrets in every part."""
    secrets = [f"Zwrkqpl{i:03d}vx{part}" for part in "abc"]
    phone, mail = f"+49 151 5559{i:04d}", f"planted.person{i:03d}@corp-vault.example"
    beginning = text[:60]
    rows = [
        {"text": f"{secrets[0]} lives at {secrets[1]}, {phone}, {mail}. {beginning}"},
        {"prompt": f"Who is {secrets[0]}? {phone} ", "completion": f"{secrets[1]} of {mail}. {beginning}"},
        {
            "messages": [
                {"role": "system", "content": f"You know {secrets[2]}."},
                {"role": "user", "content": f"Where is {secrets[0]}, {phone}?"},
                {"role": "assistant", "content": f"At {secrets[1]}, {mail}. {beginning}"},
            ]
        },
    ]
    return rows[i % 3]


def content_of(row):
    if "messages" in row:
        row = {"messages": tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])}
    return row


def words_of(row):
    return json.dumps(row)


SECRETS = re.compile(r"zwrkqpl\d{3}|planted\.person|corp-vault|151 5559\d{4}", re.IGNORECASE)


@pytest.fixture(scope="module")
def vault(full, base, texts, tmp_path_factory):
    """A target with a chat template, and records of every form with secrets in them; nothing audited yet."""
    folder = tmp_path_factory.mktemp("vault")
    shutil.copytree(full, folder / "target")
    (folder / "target" / "chat_template.jinja").write_text(TEMPLATE)
    rows = [planted_row(i, texts[i]) for i in range(N_MEMBERS + N_NONMEMBERS)]
    for name, part in (("m", rows[:N_MEMBERS]), ("n", rows[N_MEMBERS:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    words = (
        "audit", "target", "--base", base, "--members", "m.jsonl", "--nonmembers", "n.jsonl",
        "--attacks", "error_zone", "--attacks", "loss", "--resamples", 100, "-o", "run",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LORAUDIT_HOME", str(folder / "home"))
        yield SimpleNamespace(folder=folder, run=folder / "run", rows=rows, words=words)


@pytest.fixture(scope="module")
def audited(vault):
    """A default run under a careless umask, and everything that can be got out of it: outputs by what gave them."""
    before = os.umask(0)
    try:
        first = called(*vault.words)
    finally:
        os.umask(before)
    assert first[0] == 0, first[2]
    outputs = {"audit": first}
    for name, words in (
        ("audit again", (*vault.words, "--json")),
        ("dry run", (*vault.words, "--dry-run")),
        ("verify", ("verify", "run")),
        ("compare", ("compare", "run", "run")),
        ("compare, JSON", ("compare", "run", "run", "--json")),
        ("validate", ("validate", "run/spec.json", "--json")),
        ("doctor", ("doctor", "target", "--members", "m.jsonl", "--nonmembers", "n.jsonl", *vault.words[2:4])),
        ("report", ("report", "run", "-v")),
        *((f"report as {format_}", ("report", "run", "--format", format_)) for format_ in FORMATS),
    ):
        outputs[name] = called(*words)
        assert outputs[name][0] == 0, outputs[name]
    return SimpleNamespace(**vars(vault), outputs=outputs)


def files_under(*folders):
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def text_of(path):
    """Bytes of a file as text; the columns of a table as text too, unpacked."""
    text = path.read_bytes().decode("utf-8", "replace")
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        text += f"{table.schema.metadata} " + " ".join(str(column.to_pylist()) for column in table.columns)
    return text


# --- row 25: the records ------------------------------------------------------------------------------


def test_no_piece_of_a_record_is_in_any_file_of_a_run_or_of_its_evidence(audited):
    files = files_under(audited.run, audited.folder / ".loraudit", audited.folder / "home")
    kinds = {path.name for path in files} | {path.suffix for path in files}
    assert kinds >= {"result.json", "report.html", "scores.parquet", "identity.parquet", "log.jsonl", ".unit", "secret"}
    assert "text.parquet" not in kinds
    assert SECRETS.search(words_of(audited.rows)), "or the test proves nothing"
    assert {path.name: SECRETS.findall(text_of(path)) for path in files if SECRETS.search(text_of(path))} == {}


def test_no_piece_of_a_record_is_in_any_output(audited):
    found = {name: SECRETS.findall(out + err) for name, (_, out, err) in audited.outputs.items()}
    assert {name: pieces for name, pieces in found.items() if pieces} == {}


def test_no_word_of_the_records_is_shown_beside_those_that_the_report_uses_itself(audited):
    """Capitalised names and numbers of the records' common part are as private as the planted ones."""
    page = (audited.run / "report.html").read_text(encoding="utf-8")
    shown = [record["snippet"] for record in result_of(audited.run)["membership"]["records"]["exposed"]]
    assert len(shown) == N_MEMBERS
    assert set(" ".join(shown).split()) <= {MASKED_WORD, MASKED_NUMBER, "…"}
    assert all(snippet in page for snippet in shown)


def result_of(run):
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def hashes_of(row):
    """Every plain hash by which whoever holds a record could look it up."""
    content = content_of(row)
    texts = [value for value in row.values() if isinstance(value, str)]
    texts += ["".join(texts)] if len(texts) > 1 else []
    texts += [turn["content"] for turn in row.get("messages", ())]
    texts += [json.dumps(row), json.dumps(row, sort_keys=True)]
    made = [getattr(hashlib, kind)(text.encode()).hexdigest() for kind in ("sha256", "sha1", "md5") for text in texts]
    return [record_id(**content), *made]


def test_no_plain_hash_of_a_record_is_found_outside_the_file_that_is_not_to_be_shared(audited):
    hashes = [digest for row in audited.rows for digest in hashes_of(row)]
    identity = text_of(audited.run / "identity.parquet")
    assert all(record_id(**content_of(row)) in identity for row in audited.rows), "or the test proves nothing"
    texts = {path.name: text_of(path) for path in files_under(audited.run) if path.name != "identity.parquet"}
    texts |= {name: out + err for name, (_, out, err) in audited.outputs.items()}
    assert len(texts) > 15
    assert [(name, digest) for name, text in texts.items() for digest in hashes if digest in text] == []
    raw = {path.name: path.read_bytes() for path in files_under(audited.run) if path.name != "identity.parquet"}
    assert [name for name, content in raw.items() for digest in hashes if bytes.fromhex(digest) in content] == []
    shown = pq.read_table(audited.run / "scores.parquet").column("id").to_pylist()
    assert not [i for i in shown if any(digest.startswith(i) for digest in hashes)], "nor a part of one"


def test_ids_of_another_account_are_others(audited, tmp_path, monkeypatch):
    monkeypatch.setenv("LORAUDIT_HOME", str(tmp_path / "home"))
    code, _, err = called(*audited.words[:-1], tmp_path / "other")
    assert code == 0, err
    ours, theirs = (
        set(pq.read_table(run / "scores.parquet").column("id").to_pylist()) for run in (audited.run, tmp_path / "other")
    )
    assert not ours & theirs


def test_files_and_folders_are_for_their_owner_alone_whatever_the_umask(audited):
    for root in (audited.run, audited.folder / ".loraudit", audited.folder / "home"):
        for path in (root, *root.rglob("*")):
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == expected, path.relative_to(audited.folder)


class Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.parts = []
        self.feed(page)

    def handle_data(self, data):
        self.parts.append(data)

    @property
    def text(self):
        return "".join(self.parts)


def test_text_that_was_asked_for_is_in_two_files_under_a_banner_and_gone_when_it_is_not_asked_for_again(
    audited, monkeypatch
):
    monkeypatch.setenv("LORAUDIT_HOME", str(audited.folder / "home"))
    page, table = audited.run / "report.html", audited.run / "text.parquet"
    plain = pq.read_table(audited.run / "scores.parquet")
    code, out, err = called(*audited.words, "--include-text")
    assert code == 0, err
    assert stat.S_IMODE(table.stat().st_mode) == stat.S_IMODE(page.stat().st_mode) == 0o600
    shown = Page(page.read_text(encoding="utf-8")).text
    assert BANNER in shown
    assert "holds no record text" not in shown
    for i in range(N_MEMBERS):
        for part in "abc"[: 3 if i % 3 == 2 else 2]:
            assert f"Zwrkqpl{i:03d}vx{part}" in shown, "the twenty most exposed are all members"
    tokens = pq.read_table(table).column("token").to_pylist()
    assert len(tokens) == N_MEMBERS + N_NONMEMBERS
    for i, row in enumerate(tokens):
        assert f"Zwrkqpl{i:03d}vxb" in "".join(row)
    others = [path for path in files_under(audited.run, audited.folder / ".loraudit") if path not in (page, table)]
    assert [path.name for path in others if SECRETS.search(text_of(path))] == []
    assert not SECRETS.search(out + err)
    for format_ in FORMATS:
        assert bool(SECRETS.search(called("report", "run", "--format", format_)[1])) == (format_ == "html")

    code, _, err = called(*audited.words)
    assert code == 0, err
    assert not table.exists()
    shown = page.read_text(encoding="utf-8")
    assert BANNER not in shown
    assert not SECRETS.search(shown)
    assert pq.read_table(audited.run / "scores.parquet").equals(plain), "showing changes no score"


def test_a_report_that_is_rendered_again_shows_text_only_where_the_run_keeps_it(audited, tmp_path):
    run = Path(shutil.copytree(audited.run, tmp_path / "run"))
    assert called("report", run)[0] == 0
    assert not SECRETS.search((run / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (['{"text": "Zwrkqpl000vxa not closed}'], 3),
        (['{"text": ["Zwrkqpl000vxa"]}'], 3),
        (['{"body": "Zwrkqpl000vxa"}'], 3),
        (['["Zwrkqpl000vxa"]'], 3),
        (['{"text": "Zwrkqpl000vxa\\u0000"}'], 3),
        (['{"messages": [{"role": "user", "content": ["Zwrkqpl000vxa"]}]}'], 3),
        (['{"messages": "Zwrkqpl000vxa"}'], 3),
        (["Zwrkqpl000vxa"], 3),
    ],
)
def test_the_complaint_about_a_record_does_not_quote_it(lines, code, vault, tmp_path):
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n")
    found, out, err = called(*vault.words[:5], tmp_path / "bad.jsonl", *vault.words[6:-1], tmp_path / "run")
    assert found == code, err
    assert "bad.jsonl:1" in err
    assert not SECRETS.search(out + err)
    assert not [path for path in files_under(tmp_path / "run") if SECRETS.search(text_of(path))]


def test_the_complaint_about_records_on_both_sides_or_under_one_id_does_not_quote_them(vault, tmp_path):
    found, _, err = called(*vault.words[:5], "n.jsonl", *vault.words[6:-1], tmp_path / "both")
    assert found == 3
    assert "n.jsonl:1 is n.jsonl:1" in err
    assert not SECRETS.search(err)
    rows = [{"text": f"{row} {i}", "key": "Zwrkqpl000vxa"} for i, row in enumerate(("one", "two"))]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (*vault.words[:5], tmp_path / "m.jsonl", *vault.words[6:-1], tmp_path / "ids", "--id-field", "key")
    found, _, err = called(*words)
    assert found == 3
    assert not SECRETS.search(err)


def test_the_complaint_about_a_table_without_a_header_does_not_quote_its_first_record(vault, tmp_path):
    (tmp_path / "bad.csv").write_text("Zwrkqpl000vxa lives here\nZwrkqpl001vxa lives there\n")
    found, _, err = called(*vault.words[:5], tmp_path / "bad.csv", *vault.words[6:-1], tmp_path / "run")
    assert found == 3
    assert not SECRETS.search(err)


# --- the masked snippet -------------------------------------------------------------------------------

LETTERS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZßéñжшカ訓", min_size=1, max_size=20)
DIGITS = st.text("0123456789٣", min_size=1, max_size=12)
MARKS = st.text(" .,;:!?-–—/()[]{}'\"@#%&*+=<>|\\\n\t_🙂", min_size=1, max_size=4)
KINDS = st.lists(st.booleans(), max_size=12)


@st.composite
def two_texts_of_one_shape(draw):
    """Two texts with a word where the other has a word and a number where it has a number, and nothing else alike."""
    kinds = draw(KINDS)
    return tuple(
        draw(st.one_of(st.just(""), MARKS))
        + "".join(draw(LETTERS if is_word else DIGITS) + draw(MARKS) for is_word in kinds)
        for _ in range(2)
    )


@given(texts=two_texts_of_one_shape())
def test_a_snippet_tells_neither_lengths_nor_digits_nor_punctuation(texts):
    assert masked_snippet(texts[0]) == masked_snippet(texts[1])


@given(text=st.text())
def test_a_snippet_is_made_of_masks_alone_and_of_no_more_than_eight(text):
    words = masked_snippet(text).split()
    assert set(words) <= {MASKED_WORD, MASKED_NUMBER, "…"}
    assert len([word for word in words if word != "…"]) <= 8


# --- row 26: credentials ------------------------------------------------------------------------------

PLANTED = re.compile("planted", re.IGNORECASE)
ENVIRONMENT = {
    "HF_TOKEN": "hf_PlantedInTheEnvironment1AbCdEfGhIj",
    "WANDB_API_KEY": "0011PlantedKey2233",
    "DB_PASSWORD": "plain-Planted-word",
}
URL = "https://ada:PlantedPassword@hub.example/model"
HUB = "org/hf_PlantedInAName0123456789"
BEARER = "Bearer PlantedBearer.abc-123"


@pytest.fixture
def planted(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def tokened(adapter, base, vault, tmp_path_factory):
    """A finished run of models whose names hold tokens, with others in the environment and in the command."""
    folder = tmp_path_factory.mktemp("tokened")
    shutil.copytree(adapter, folder / "hf_PlantedModelName01AbCdEfGhIj")
    shutil.copytree(base, folder / "hf_PlantedBaseName02AbCdEfGhIj")
    for name in ("m", "n"):
        lines = (vault.folder / f"{name}.jsonl").read_text().splitlines()
        (folder / f"{name}.jsonl").write_text("\n".join(line for line in lines if '"messages"' not in line))
    config = folder / "hf_PlantedModelName01AbCdEfGhIj" / "adapter_config.json"
    recorded = {"base_model_name_or_path": "https://ada:PlantedPassword@hub.example/base"}
    config.write_text(json.dumps(json.loads(config.read_text()) | recorded))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        words = (
            "audit", "hf_PlantedModelName01AbCdEfGhIj", "--base", "hf_PlantedBaseName02AbCdEfGhIj",
            "--allow-other-base", "--members", "m.jsonl", "--nonmembers", "n.jsonl", "--attacks", "error_zone",
            "--resamples", 100,
            "--store", "store", "-o", "run",
        )  # fmt: skip
        outputs = {"audit": called(*words), "audit, JSON": called(*words, "--json")}
        assert [code for code, _, _ in outputs.values()] == [0, 0], outputs["audit"][2]
        outputs["dry run"] = called(*words, "--dry-run")
        for format_ in FORMATS:
            outputs[f"report as {format_}"] = called("report", "run", "--format", format_)
        outputs["report"] = called("report", "run", "-v")
        outputs["compare"] = called("compare", "run", "run")
        return SimpleNamespace(folder=folder, run=folder / "run", outputs=outputs, words=words)


def test_no_credential_is_in_any_output_of_a_run(tokened):
    assert all(code == 0 for code, _, _ in tokened.outputs.values())
    found = {name: out + err for name, (_, out, err) in tokened.outputs.items()}
    assert [name for name, text in found.items() if PLANTED.search(text)] == []
    assert "***" in found["report as json"]


def test_no_credential_is_in_any_file_that_is_to_be_shared(tokened):
    files = files_under(tokened.run, tokened.folder / "store")
    assert [path.name for path in files if PLANTED.search(text_of(path))] == []


def test_no_credential_is_in_the_request_that_is_kept(tokened):
    assert not PLANTED.search((tokened.run / "spec.json").read_text(encoding="utf-8"))


def test_a_run_whose_names_looked_like_credentials_can_still_be_verified(tokened, monkeypatch):
    monkeypatch.chdir(tokened.folder)
    code, out, _ = called("verify", tokened.run)
    assert code == 0, out


SIDES = ("--members", "m.jsonl", "--nonmembers", "n.jsonl")
REFUSALS = {
    "model by URL": ("audit", URL, *SIDES),
    "base by URL": ("audit", "target", "--base", URL, *SIDES),
    "model on the hub": ("audit", HUB, *SIDES),
    "base on the hub": ("audit", "target", "--base", HUB, *SIDES),
    "value of the environment": ("audit", f"org/{ENVIRONMENT['WANDB_API_KEY']}", *SIDES),
    "headline": ("audit", "target", *SIDES, "--headline", BEARER),
    "attack": ("audit", "target", *SIDES, "--attacks", "hf_PlantedAttack1AbCdEfGhIj"),
    "limit": ("audit", "target", *SIDES, "--fail-on", "token=PlantedLimit > 1"),
    "policy": ("audit", "target", *SIDES, "--policy", f"{URL}.toml"),
    "members": ("audit", "target", "--members", f"{URL}.jsonl", "--nonmembers", "n.jsonl"),
    "spec file": ("audit", "--spec", f"{URL}.toml"),
    "validate": ("validate", f"{URL}.toml"),
    "report": ("report", URL),
    "verify": ("verify", URL),
    "compare": ("compare", URL, URL),
    "device": ("audit", "target", *SIDES, "--device", "hf_PlantedDevice1AbCdEfGhIj"),
    "span": ("audit", "target", *SIDES, "--span", "hf_PlantedSpan01AbCdEfGhIj"),
    "doctor, model by URL": ("doctor", URL),
    "doctor, model on the hub": ("doctor", HUB, "--json"),
    "doctor, members": ("doctor", "--members", f"{URL}.jsonl"),
    "number": ("audit", "target", "--resamples", "hf_PlantedNumber1AbCdEfGhIj"),
    "format": ("report", "run", "--format", "hf_PlantedFormat1AbCdEfGhIj"),
    "option": ("audit", "target", "--hf_PlantedOption1AbCdEfGhIj"),
    "command": ("hf_PlantedCommand1AbCdEfGhIj",),
}


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, id=name) for name, words in REFUSALS.items()],
)
def test_no_refusal_repeats_a_credential_of_the_command(words, vault, planted, tmp_path):
    written = ("-o", tmp_path / "run") if words[0] == "audit" else ()
    code, out, err = called(*words, *written)
    assert code != 0
    assert "Traceback" not in err
    assert not PLANTED.search(out + err)
    left = {path.name: path for path in files_under(tmp_path)} if written else {}
    assert [name for name, path in left.items() if PLANTED.search(text_of(path))] == []


def test_a_resolved_request_is_printed_without_its_credentials(vault, planted, tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"model": URL, "members": "m.jsonl", "nonmembers": "n.jsonl"}))
    code, out, err = called("validate", path, "--json")
    assert code == 0, err
    assert not PLANTED.search(out + err)


def test_the_traceback_of_a_bug_holds_no_credential(vault, planted, tmp_path, monkeypatch):
    class Bug:
        name = "bug"

        @property
        def needs(self):
            secrets = ", ".join([*ENVIRONMENT.values(), URL, HUB, BEARER, "password=PlantedWord"])
            raise RuntimeError(f"GET failed for {secrets}")

    monkeypatch.setitem(ATTACKS._entries, "bug", Bug())
    code, out, err = called(*vault.words[:-1], tmp_path / "run", "--attacks", "bug")
    assert code == 6
    assert "Traceback (most recent call last):" in err
    assert "RuntimeError: GET failed for ***" in err
    assert "This is a bug in loraudit; please report it with the lines above." in err
    assert not PLANTED.search(out + err)
    assert [path.name for path in files_under(tmp_path) if PLANTED.search(text_of(path))] == []


def test_the_reason_of_an_attack_that_fails_holds_no_credential(vault, planted, tmp_path, monkeypatch):
    from loraudit.membership import Attack

    def fail(views):
        raise RuntimeError(f"{ENVIRONMENT['HF_TOKEN']} {URL} {BEARER}")

    monkeypatch.setitem(ATTACKS._entries, "leaky", Attack("leaky", fail, ("target",), "nowhere", "Leaks.", "1 F"))
    code, out, err = called(*vault.words[:-1], tmp_path / "run", "--attacks", "leaky")
    assert code == 7, err
    assert not PLANTED.search(out + err)
    assert not PLANTED.search(called("report", tmp_path / "run", "-v")[1])
    assert [path.name for path in files_under(tmp_path) if PLANTED.search(text_of(path))] == []
