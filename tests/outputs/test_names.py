from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xt_backend.keys import RunFile
from xt_backend.outputs import pseudonym_ids, safe_ids, without_folders

NASTY = [
    "../../x.svs",
    "CON.svs",
    "con.x.svs",
    "a\nb.svs",
    "a\0b.svs",
    "a" * 300 + ".svs",
    "ä" * 300 + ".svs",
    "🔬.svs",
    "👩\u200d🔬.svs",
    "-rf.svs",
    "~root.svs",
    "=1+1.svs",
    ".hidden",
    "dot..svs",
    "space .svs",
    'a<b>:"|?*\\c.svs',
    "\udce4.svs",
    "\u202egnp.svs",
    "",
    ".",
    "..",
    "/",
    "X.SVS",
    "x.ndpi",
    "x.svs",
    "café.svs",
    "cafe\u0301.svs",
    "ﬁ.svs",
    "fi.svs",
]
NAMES = st.lists(st.text(min_size=0, max_size=12) | st.sampled_from(NASTY), max_size=12)


def folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def test_plain_names_keep_their_stem() -> None:
    names = ["a.svs", "b c.mrxs", "her2st_C2.ome.tiff", "S-12 (3).ndpi", "ünïcode.svs", "folder"]
    assert safe_ids(names) == [PurePosixPath(name).stem for name in names]


def test_same_named_files_are_numbered_and_same_stems_told_apart() -> None:
    ids = safe_ids(["a/x.svs", "b/x.svs", "c/x.svs", "y.svs", "y.ndpi"])
    assert ids[:4] == ["x", "x-2", "x-3", "y"]
    assert ids[4].startswith("y-")
    assert ids[4] == safe_ids(["y.svs", "z.svs", "y.ndpi"])[2]


def test_no_slide_writes_over_another_ones_files() -> None:
    suffixes = RunFile.of_slide()
    taken = {
        suffix.removesuffix(tail)
        for suffix in suffixes
        for tail in suffixes
        if suffix != tail and suffix.endswith(tail)
    }
    assert {".points", ".outlines"} <= taken
    ids = safe_ids(["a.svs", *(f"a{middle}.svs" for middle in sorted(taken))])
    files = [slide_id + suffix for slide_id in ids for suffix in suffixes]
    assert len(files) == len(set(files))


def check(ids: list[str], names: list[str]) -> None:
    assert len(ids) == len(names)
    assert len({folded(i) for i in ids}) == len(ids)
    for each in ids:
        assert 0 < len(each.encode()) <= 140
        assert each == each.strip()
        assert each[0] not in "-~=+@."
        assert each[-1] != "."
        assert not set(each) & set('<>:"/\\|?*\n\0')
        assert PurePosixPath(each).name == each
        assert each.split(".")[0].upper() not in {"CON", "NUL", "AUX", "COM1"}


@given(NAMES, st.integers(0, 12))
def test_ids_are_safe_unique_and_stay_when_inputs_follow(names: list[str], kept: int) -> None:
    ids = safe_ids(names)
    check(ids, names)
    assert safe_ids(names[:kept]) == ids[:kept]
    keyed = pseudonym_ids(names, b"secret")
    check(keyed, names)
    assert pseudonym_ids(names[:kept], b"secret") == keyed[:kept]


def test_every_nasty_name_can_be_a_file_and_stays_inside(tmp_path: Path) -> None:
    ids = safe_ids(NASTY)
    check(ids, NASTY)
    for each in ids:
        (tmp_path / f"{each}.regions.csv").write_text("x")
    assert len(list(tmp_path.iterdir())) == len(NASTY)
    assert ids[0] == "x"
    assert safe_ids(["a" * 300 + "1.svs"]) != safe_ids(["a" * 300 + "2.svs"])


def test_pseudonyms_depend_on_the_key_and_show_no_name() -> None:
    (one,), (two,) = pseudonym_ids(["DOE.svs"], b"1"), pseudonym_ids(["DOE.svs"], b"2")
    assert one != two
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert pseudonym_ids(["a/DOE.svs", "b/DOE.svs"], b"1") == [one, f"{one}-2"]


@pytest.mark.parametrize(
    "text",
    [
        "{path} is truncated",
        "cannot open '{path}': no such file in {folder}",
        "{folder}/other file.svs and {path}/Data0000.dat",
    ],
)
def test_messages_lose_their_folders(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "DOE JOHN" / "biopsy"
    path = folder / "x.svs"
    cut = without_folders(text.format(path=path, folder=folder), [path])
    assert "DOE" not in cut
    assert "biopsy" not in cut
    assert str(tmp_path) not in cut
    assert "x.svs" in cut or "other file.svs" in cut or "<folder>" in cut


def test_messages_keep_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    text = "DOE/x.svs: 0.3 um/px, and/or 1/2"
    assert without_folders(text, [Path("DOE/x.svs")]) == "x.svs: 0.3 um/px, and/or 1/2"
    assert without_folders("x.svs: 0.3 um/px", [Path("x.svs"), Path("/")]) == "x.svs: 0.3 um/px"
