"""Manifests that are wrong, and manifests that were put right."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.annotations import write_roi
from support.cli import Call, rows

from xt_backend.batch import read_inputs
from xt_backend.errors import UsageError
from xt_backend.store import ScoreMap


def test_a_corrected_pixel_size_is_scored_again_and_the_other_rows_are_not(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tiff"
    other.write_bytes(tissue_slide.read_bytes())
    manifest = tmp_path / "list.csv"
    arguments = ("score", manifest, "--model", tiny_model, "--out", tmp_path / "run")

    def score(mpp: str) -> list[dict[str, str]]:
        manifest.write_text(f"slide,slide_mpp\n{tissue_slide},{mpp}\nother.tiff,\n")
        done = call(*arguments)
        assert done.returncode == 0, done.stderr
        return rows(tmp_path / "run")

    score("0.5")
    before = (tmp_path / "run" / "other.run.h5").stat().st_mtime_ns
    first, second = score("0.6")
    assert float(first["slide_mpp"]) == pytest.approx(0.6)
    assert first["n_regions"] == first["encoded_regions"] != "16"
    assert ScoreMap.load(tmp_path / "run" / "block.run.h5").slide_mpp == (0.6, 0.6)
    assert (second["encoded_regions"], second["cache"]) == ("0", "hit")
    assert (tmp_path / "run" / "other.run.h5").stat().st_mtime_ns == before
    assert [row["encoded_regions"] for row in score("0.6")] == ["0", "0"]


def test_an_edited_roi_file_is_scored_again(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"slide,roi\n{tissue_slide},roi.geojson\n")
    for x1_px, n_regions in ((380, "1"), (640, "3")):
        write_roi(tmp_path / "roi.geojson", (260, 260, x1_px, 380))
        done = call("score", manifest, "--model", tiny_model, "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        assert rows(tmp_path / "run")[0]["n_regions"] == n_regions


def test_names_that_no_file_system_takes_fail_their_own_row(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.csv"
    names = ["a" * 300 + ".svs", '"two\nlines.svs"', "nul\0.svs", "a,b.svs", str(tissue_slide)]
    manifest.write_text("slide\n" + "\n".join(names) + "\n")
    done = call("score", manifest, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    table = rows(tmp_path / "run")
    assert [row["status"] for row in table] == ["failed"] * 4 + ["done"]
    assert [row["row"] for row in table] == ["0", "1", "2", "3", "4"]
    assert "too long" in table[0]["reason"]
    assert table[1]["slide"] == "two\\nlines.svs"
    assert len({row["id"] for row in table}) == 5


def test_a_quoted_line_break_joins_no_two_names(tmp_path: Path) -> None:
    (tmp_path / "two\nlines.svs").write_bytes(b"")
    manifest = tmp_path / "list.csv"
    manifest.write_bytes(b'slide,label\r\n"two\nlines.svs",x\r\n')
    (row,) = read_inputs([manifest]).rows
    assert row.name == "two\nlines.svs"
    assert (row.problem, row.label) == ("", "x")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_of_any_spreadsheet_are_read(tissue_slide: Path, tmp_path: Path, mark: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"Slide{mark}Slide_mpp{mark}label\n{tissue_slide}{mark}0.5{mark}a b\n")
    (row,) = read_inputs([manifest]).rows
    assert (row.path, row.slide_mpp, row.label) == (tissue_slide, 0.5, "a b")


def test_a_row_without_a_slide_does_not_tell_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "DOE^JOHN"
    folder.mkdir()
    manifest = folder / "list.csv"
    manifest.write_text("slide,label\n,x\n")
    (row,) = read_inputs([manifest]).rows
    assert "names no slide" in row.problem
    assert row.name == "(none)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide\n" + "a" * 200_000 + "\n", "field larger"),
        ('slide\n"never closed\n', "no CSV"),
        ("name\nx.svs\n", "no column 'slide'"),
        ("slide,colour\nx.svs,red\n", "colour"),
    ],
)
def test_a_table_that_is_none_is_bad_usage(tmp_path: Path, text: str, said: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_inputs([manifest])


def test_more_cells_than_columns_are_told(tissue_slide: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"slide,slide_mpp\n{tissue_slide},0.5,roi.geojson\n")
    (row,) = read_inputs([manifest]).rows
    assert row.problem.startswith("Manifest, line 2: This row has more cells than columns")


def test_a_named_path_that_is_too_long_is_bad_usage(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    done = call("score", "a" * 300, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "too long" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_manifest_may_be_parquet(tissue_slide: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    (tmp_path / "b.tiff").write_bytes(b"")
    table = pa.table(
        {
            "Slide": [str(tissue_slide), "b.tiff", str(tissue_slide), None],
            "slide_mpp": pa.array([0.5, None, float("nan"), 0.5]),
            "label": ["x", None, "y", "z"],
            "patient": [7, 8, 9, 10],
        }
    )
    parquet.write_table(table, tmp_path / "list.parquet")
    first, second, third, fourth = read_inputs([tmp_path / "list.parquet"]).rows
    assert (first.path, first.slide_mpp, first.label) == (tissue_slide, 0.5, "x")
    assert first.patient == "7"
    assert (second.path, second.slide_mpp, second.label) == (tmp_path / "b.tiff", None, "")
    assert "Manifest, row 3: slide_mpp 'nan' is no positive number" in third.problem
    assert "Manifest, row 4: This row names no slide" in fourth.problem


def test_a_parquet_manifest_that_is_none_is_bad_usage(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    (tmp_path / "list.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UsageError, match=r"list\.parquet cannot be read as Parquet"):
        read_inputs([tmp_path / "list.parquet"])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_is_told_with_its_line(tmp_path: Path, encoding: str) -> None:
    manifest = tmp_path / "list.csv"
    # The umlaut's bytes are no UTF-8; without it and without a mark, UTF-16 is.
    name = "Müller" if encoding in ("latin-1", "utf-16") else "Meier"
    manifest.write_bytes(f"slide\na.svs\n{name}.svs\n".encode(encoding))
    line = 3 if encoding == "latin-1" else 1
    with pytest.raises(UsageError, match=rf"list\.csv is not UTF-8 text \(line {line}\)"):
        read_inputs([manifest])


@pytest.mark.parametrize("mpp", ["0", "nan", "-0.5", "inf", "half", "0,5"])
def test_a_pixel_size_that_is_none_fails_its_row(
    tissue_slide: Path, tmp_path: Path, mpp: str
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f'slide,slide_mpp\n{tissue_slide},"{mpp}"\n{tissue_slide},0.5\n')
    wrong, right = read_inputs([manifest]).rows
    assert f"'{mpp}' is no positive number" in wrong.problem
    assert not right.problem


def test_what_is_wrong_with_a_row_names_its_line(tissue_slide: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        f"slide,slide_mpp,roi\n{tissue_slide},100,\n\nnowhere.svs,,\n{tissue_slide},,no.json\n"
    )
    absurd, gone, roi = (row.problem for row in read_inputs([manifest]).rows)
    assert absurd.startswith("Manifest, line 2: a pixel size of 100 um/px is outside 0.05 to 5")
    assert absurd.endswith("Correct slide_mpp in the manifest.")
    assert gone.startswith("Manifest, line 4: There is no file or folder nowhere.svs.")
    assert roi.startswith("Manifest, line 5: There is no file or folder no.json for the ROI.")


def test_a_slide_that_is_named_twice_is_scored_once(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"slide,patient\n{tissue_slide},p1\n{tissue_slide},p1\n")
    done = call("score", manifest, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3
    first, second = rows(tmp_path / "run")
    assert (first["status"], second["status"]) == ("done", "failed")
    assert second["reason"].startswith("Manifest, line 3: ")
    assert "Manifest, line 2 is the same" in second["reason"]
