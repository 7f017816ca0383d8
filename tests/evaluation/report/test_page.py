"""One page that shows the numbers of the summary, needs no other file, and never grows beyond its limit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluations import BASELINES, Page, evaluation, page, summary_of

from medsam.cli.evaluate import _print_table
from medsam.errors import InputError
from medsam.evaluation.report import context as context_of
from medsam.evaluation.report import page as page_of
from medsam.evaluation.report import write_report
from medsam.evaluation.report.latex import summary_table
from medsam.evaluation.report.template import number
from medsam.evaluation.summary import robustness, summarise
from medsam.evaluation.tables import METRICS
from medsam.metrics.measure import DEFINITIONS


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Path, Page]:
    """A folder of three cases that nothing here changes, and its page."""
    folder = evaluation(tmp_path_factory.mktemp("plain") / "run")
    return folder, page(folder)


def test_the_first_table_tells_the_overall_numbers_of_the_summary_models_before_baselines(tmp_path):
    folder = evaluation(tmp_path / "run", cases=6)
    table = page(folder).tables[0]
    summary = summary_of(folder)
    order = ["litemedsam", "medsam-vit-b", "filled-box", "inscribed-ellipse"]
    assert len(table) == 1 + len(order)
    for model, row in zip(order, table[1:], strict=True):
        assert model in row[0]
        assert ("no model" in row[0]) == (model in BASELINES)
        for metric, cell in zip(("dice", "nsd", "hd95_mm"), row[1:4], strict=True):
            found = summary[model]["overall"][metric]
            low, high = (number(value, metric) for value in found["ci95"])
            assert cell.split() == [number(found["mean"], metric), f"[{low},", f"{high}]"]
        assert [cell.strip() for cell in row[4:]] == ["6", "12"]


def test_every_structure_has_every_metric_of_every_model(plain):
    folder, whole = plain
    tables = whole.tables[1:9]
    summary = summary_of(folder)
    for metric, table in zip(METRICS, tables, strict=True):
        models = [cell.split()[1] for cell in table[0][1:]]
        assert [row[0].strip() for row in table[1:]] == ["spleen", "liver", "all structures"]
        for row in table[1:3]:
            for model, cell in zip(models, row[1:], strict=True):
                found = summary[model]["structures"][row[0].strip()][metric]
                if found["mean"] is None:
                    assert cell.strip() == "–"
                    continue
                assert cell.split()[:3] == [number(found["mean"], metric), "±", number(found["std"], metric)]
                assert f"median {number(found['median'], metric)}, n {found['n']}" in cell


def test_a_value_that_is_not_defined_is_counted_in_the_table(tmp_path):
    folder = evaluation(tmp_path / "run")
    rows = pd.read_csv(folder / "metrics.csv")
    rows.loc[(rows["case"] == "case_000") & (rows["structure"] == "liver"), "hd95_mm"] = np.nan
    rows.to_csv(folder / "metrics.csv", index=False)
    (folder / "summary.json").write_text(json.dumps(summary_of(folder) | summarise(rows, resamples=50)))
    found = page(folder)
    assert "n 2 of 3" in found.shown
    assert "Without HD95 for another reason: 4 values." in found.shown


@pytest.mark.parametrize(
    ("column", "value", "said", "unsaid"),
    [
        ("dice", 0.0, "4 such values are left out of the mean HD95", "millimetres:"),
        ("volume_ref_ml", np.nan, "Without HD95 because the picture has no millimetres: 4 values.", "empty answer"),
    ],
)
def test_the_page_says_why_there_is_no_distance(tmp_path, column, value, said, unsaid):
    folder = evaluation(tmp_path / "run")
    rows = pd.read_csv(folder / "metrics.csv")
    some = (rows["case"] == "case_000") & (rows["structure"] == "liver")
    rows.loc[some, ["hd95_mm", column]] = np.nan, value
    rows.to_csv(folder / "metrics.csv", index=False)
    (folder / "summary.json").write_text(json.dumps(summary_of(folder) | summarise(rows, resamples=50)))
    results = page(folder).shown.partition("Why answers without a model")[0]
    assert said in results
    assert unsaid not in results


@pytest.mark.parametrize("prompts", [("box",), ("box", "mask", "points:3"), ("propagate", "mask")])
def test_a_table_of_the_page_holds_every_row_of_the_terminal(tmp_path, capsys, prompts):
    folder = evaluation(tmp_path / "run", prompts=prompts)
    rows = pd.read_csv(folder / "metrics.csv")
    # what needs no model answers a prompt of its own kind alone
    kinds = {"filled-box": "box", "inscribed-ellipse": "box"}
    rows = rows[[kinds.get(m, p) == p for m, p in zip(rows["model"], rows["prompt"], strict=True)]]
    if "mask" in prompts:
        given = rows[(rows["prompt"] == "mask") & (rows["model"] == "litemedsam")]
        rows = pd.concat([rows, given.assign(model="given-mask", predicted_iou=np.nan, seconds=np.nan)])
    rows.to_csv(folder / "metrics.csv", index=False)
    old = {key: value for key, value in summary_of(folder).items() if key in ("calibration", "protocol", "environment")}
    more = {"robustness": robustness(rows, resamples=50)} if len(prompts) > 1 else {}
    (folder / "summary.json").write_text(json.dumps(old | summarise(rows, resamples=50) | more))
    _print_table(summary_of(folder), folder)
    printed = capsys.readouterr().out.splitlines()
    several = len(prompts) > 1
    terminal = {
        tuple(line.split()[: 1 + several])
        for line in printed[
            1 : printed.index(next(filter(None, (line for line in printed if line.startswith("wrote")))))
        ]
    }
    tables = page(folder).tables
    heading = ["Model", "Prompt"] if several else ["Model"]
    (table,) = [
        rows
        for rows in tables
        if [cell.strip().split()[0] for cell in rows[0][:2]][: 1 + several] == heading
        and any("Dice" in cell for cell in rows[0])
    ]
    shown = {(row[0].split()[1], *(cell.strip() for cell in row[1 : 1 + several])) for row in table[1:]}
    assert shown == terminal
    assert len(terminal) == len(rows[["model", "prompt"]].drop_duplicates())


def test_the_page_needs_no_other_file_and_no_script(tmp_path):
    folder = evaluation(tmp_path / "run", prompts=("box", "box+5px", "box+10px"))
    found = page(folder)
    assert not {tag for tag, _ in found.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert all(address.startswith("data:image/webp;base64,") for address in found.attributes("src"))
    assert all(address.startswith("#") for address in found.attributes("href"))
    assert "http:" not in found.text
    assert "https:" not in found.text
    assert all(address.startswith("#") for address in re.findall(r"url\(['\"]?([^)]*)", found.text))
    assert not [name for _, values in found.elements for name in values if name.startswith("on")]


def test_ids_are_unique_links_lead_somewhere_and_pictures_have_words(tmp_path):
    found = page(evaluation(tmp_path / "run", prompts=("box", "box+5px"), dice=0.4))
    ids = found.attributes("id")
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in found.attributes("href")} <= set(ids)
    assert {address[1:] for address in re.findall(r"url\(([^)]*)\)", found.text)} <= set(ids)
    assert all(values.get("alt") for tag, values in found.elements if tag == "img")
    assert all(values.get("aria-label") for tag, values in found.elements if tag == "svg")
    assert ("html", {"lang": "en"}) in found.elements
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</title></style>",
        "{{ 7 * 7 }}{% raw %}",
        "--> ]]>",
        "肝臓 & Milz ½",
        "a_b$^\\frac",
        "!!",
        "NA",
    ],
)
def test_names_are_shown_as_they_are_whatever_they_hold(tmp_path, name):
    folder = evaluation(tmp_path / "run", structures=(name, "liver"), models=(name + " model",), names=(name, "007"))
    found = page(folder, title=name)
    shown = " ".join(name.split())
    assert found.shown.count(shown) > 5
    assert {tag for tag, _ in found.elements if tag == "script"} == set()
    assert not found.attributes("onerror")
    assert any(row[0].strip() == shown for row in found.tables[1])
    assert "007" in found.shown


def test_patients_are_counted_not_named(plain):
    _, found = plain
    assert "of 3 patients" in found.shown
    assert "SECRET" not in found.text


def test_worst_median_and_best_case_of_the_first_model_are_shown(tmp_path):
    found = page(evaluation(tmp_path / "run", cases=5))
    alts = [picture["alt"] for picture in found.pictures()]
    assert [re.findall(r"(\w+), (\w+) case (case_\d+)", alt)[0] for alt in alts] == [
        (structure, rank, case)
        for structure in ("spleen", "liver")
        for rank, case in (("worst", "case_004"), ("median", "case_002"), ("best", "case_000"))
    ]
    assert "Chosen by the Dice of the whole volume of litemedsam" in found.shown


def test_of_two_cases_there_is_no_median_and_a_single_case_is_the_only_one(tmp_path):
    two = [picture["alt"].split()[1] for picture in page(evaluation(tmp_path / "two", cases=2)).pictures()]
    assert two == ["worst", "best"] * 2
    one = page(evaluation(tmp_path / "one", cases=1, structures=("polyp",), colour=True))
    assert [picture["alt"].split()[1] for picture in one.pictures()] == ["only"]
    assert "1 structure in 1 case of 1 patient," in one.shown


def test_pictures_of_a_case_with_a_slash_or_a_blank_in_its_id_are_found(tmp_path):
    assert len(page(evaluation(tmp_path / "run", names=("amos/c 1", "flare/c 1"))).pictures()) == 4


def test_a_folder_without_pictures_has_a_report_that_says_so(tmp_path):
    folder = evaluation(tmp_path / "run", pictures=False)
    (folder / "overlays").rmdir()
    found = page(folder)
    assert not found.pictures()
    assert "No pictures were kept in this folder." in found.shown


def test_a_run_of_baselines_alone_is_reported_as_such(tmp_path):
    found = page(evaluation(tmp_path / "run", models=()))
    assert "Evaluation without a model" in found.text
    assert "No model was evaluated, so none failed." in found.shown
    assert "Calibration" not in found.shown


def test_a_run_in_which_nothing_is_defined_has_dashes_and_no_plots(tmp_path):
    found = page(evaluation(tmp_path / "run", dice=float("nan"), seconds=None))
    assert [cell.strip() for cell in found.tables[0][1][1:4]] == ["–"] * 3
    assert not [tag for tag, _ in found.elements if tag == "svg"]
    assert "No times were recorded." in found.shown


def test_failures_lead_to_their_structure(tmp_path):
    found = page(evaluation(tmp_path / "run", cases=2, dice=0.3))
    assert "8 of 8 answers (case × structure × model) have a volume Dice below 0.5" in found.shown
    failures = next(table for table in found.tables if table[0][0].strip() == "Case")
    assert len(failures) == 9
    assert failures[1][0].strip() == "case_000"
    assert found.attributes("href").count("#structure-1") == 4
    none = page(evaluation(tmp_path / "good", cases=2))
    assert "No model has a Dice below 0.5 in any of 8 answers" in none.shown


def test_a_long_list_of_failures_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(context_of, "MAX_FAILURES", 5)
    found = page(evaluation(tmp_path / "run", cases=2, dice=0.3))
    assert "the 5 lowest are listed, all are in metrics.csv" in found.shown


def test_several_prompts_are_a_curve_and_a_table_and_the_oracle_is_no_result(plain, tmp_path):
    folder = evaluation(tmp_path / "run", prompts=("box", "box+5px", "box:oracle3"))
    found = page(folder)
    assert "Robustness to the prompt" in found.shown
    table = next(table for table in found.tables if len(table[0]) > 1 and table[0][1].strip() == "Prompt")
    cells = {(row[0].split()[1], row[1].strip()): row[2].split()[0] for row in table[1:]}
    for model, prompts in summary_of(folder)["prompts"].items():
        for prompt, found_there in prompts.items():
            assert cells[model, prompt] == number(found_there["overall"]["dice"]["mean"], "dice")
    assert "an upper bound nobody reaches" in found.shown
    assert "Robustness" not in plain[1].shown


def test_calibration_shows_the_numbers_of_the_summary(plain):
    folder, found = plain
    table = next(table for table in found.tables if len(table[0]) > 2 and "ECE" in table[0][2])
    for row in table[1:]:
        there = summary_of(folder)["calibration"][row[0].split()[1]]
        wanted = [number(there[name], name) for name in ("ece", "mce", "bias", "auroc")]
        assert [cell.strip() for cell in row[1:6]] == [str(there["n"]), *wanted]


def test_the_expected_dice_is_held_against_the_true_one_where_it_is_known(tmp_path):
    folder = evaluation(tmp_path / "run")
    plain = page(folder)
    assert "Expected Dice" not in plain.shown
    summary = summary_of(folder)
    name = next(iter(summary["calibration"]))
    bins = [{"low": 0.0, "high": 1.0, "n": 7, "predicted": 0.8, "true": 0.75}]
    told = {"n": 7, "bins": bins, "ece": 0.05, "mce": 0.05, "bias": 0.05, "failed": 2, "auroc": 0.77, "within": 0.812}
    summary["calibration"][name]["expected_dice"] = told | {"unfamiliar": 3}
    (folder / "summary.json").write_text(json.dumps(summary))
    found = page(folder)
    table = next(table for table in found.tables if "Within its interval" in " ".join(table[0]))
    assert [cell.strip() for cell in table[1][1:]] == ["7", "0.050", "0.050", "0.770", "0.812 0.8 is wanted", "3", "2"]
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "Reliability diagram: true Dice against expected Dice" in text


def test_time_is_the_median_over_cases_of_the_sum_over_structures(tmp_path):
    found = page(evaluation(tmp_path / "run", seconds=0.6))
    table = next(table for table in found.tables if "Seconds" in table[0][1])
    assert [cell.strip() for cell in table[1][1:]] == ["1.20", "0.150", "1.5"]


def test_definitions_tolerances_protocol_environment_and_command_are_there(plain):
    _, found = plain
    infinite = [text for text in DEFINITIONS.values() if "infinite" in text]
    assert len(infinite) >= 2
    assert all(f"{text} Infinite is shown as – here." in found.shown for text in infinite if "Volume" not in text)
    assert found.shown.count("Infinite is shown as – here.") == len(infinite)
    volumes = [name for name in DEFINITIONS if name.startswith("volume")]
    assert found.shown.count("Only prompted slices count") == len(volumes) > 0
    for words in (*DEFINITIONS.values(), "FLARE22 evaluation code", "medsam evaluate --out <here>", "min pixels"):
        assert words in found.shown
    assert "Not a medical device" in found.shown
    assert "without looking at the image" in found.shown


def test_the_latex_table_stands_beside_the_page_and_nothing_else_is_left(tmp_path):
    folder = evaluation(tmp_path / "run")
    before = {path.name for path in folder.iterdir()}
    assert write_report(folder) == folder / "report.html"
    assert {path.name for path in folder.iterdir()} - before == {"report.html", "table.tex"}
    assert (folder / "table.tex").read_text() == summary_table(summary_of(folder))


def test_the_same_folder_gives_the_same_bytes(plain):
    folder, _ = plain
    first = (folder / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == first


def test_the_page_stays_below_its_limit_and_says_what_is_missing(tmp_path, monkeypatch):
    folder = evaluation(tmp_path / "run", cases=3, structures=tuple("abcdef"), noise=True)
    whole = write_report(folder).stat().st_size
    edges, counts, plots = [], [], []
    for share in (1.0, 0.7, 0.5, 0.4, 0.3):
        monkeypatch.setattr(page_of, "MAX_BYTES", int(whole * share))
        found = page(folder)
        assert len(found.text.encode()) <= whole * share
        pictures = found.pictures()
        edges.append(min((int(picture["width"]) for picture in pictures), default=0))
        counts.append(len(pictures))
        plots.append(sum(tag == "svg" for tag, _ in found.elements))
        left_out = re.search(r"Left out to keep the page small: (\d+) of 18 pictures", found.shown)
        assert (int(left_out[1]) if left_out else 0) == 18 - len(pictures)
        if 0 < len(pictures) <= 6:
            assert {picture["alt"].split()[1] for picture in pictures} == {"worst"}
    assert edges[0] == 320
    assert edges[1] < 320
    assert counts[0] == 18
    assert sorted(counts, reverse=True) == counts
    assert counts[-1] < 18
    assert plots[0] == plots[2]


def test_without_room_for_pictures_plots_and_tables_go_and_then_it_is_an_error(tmp_path, monkeypatch):
    folder = evaluation(tmp_path / "run", cases=3, structures=tuple("abcdef"))
    monkeypatch.setattr(page_of, "MAX_BYTES", 60_000)
    found = page(folder)
    assert len(found.text.encode()) <= 60_000
    assert "all plots" in found.shown
    monkeypatch.setattr(page_of, "MAX_BYTES", 1000)
    (folder / "report.html").unlink()
    with pytest.raises(InputError, match="larger than 0.001 MB even without pictures"):
        write_report(folder)
    assert not [path for path in folder.iterdir() if "report" in path.name]


@pytest.mark.parametrize(("cases", "structures"), [(130, 2), (1, 61)])
def test_many_cases_and_many_structures_fit(tmp_path, cases, structures):
    names = tuple(f"structure_with_a_rather_long_name_{n}" for n in range(structures))
    found = page(evaluation(tmp_path / "run", cases=cases, structures=names, noise=True))
    assert len(found.text.encode()) < 5_000_000
    assert len(found.pictures()) == structures * min(cases, 3)
    assert not re.search("Left out to keep", found.shown)


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (0.91249, "dice", "0.912"),
        (3.456, "hd95_mm", "3.46"),
        (-12.34, "volume_error_percent", "−12.3"),
        (-0.0001, "volume_error_ml", "0.00"),
        (float("nan"), "dice", "–"),
        (float("inf"), "hd95_mm", "–"),
        (None, "nsd", "–"),
    ],
)
def test_numbers_have_the_decimals_of_their_unit(value, metric, shown):
    assert number(value, metric) == shown


def test_a_damaged_folder_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_report(tmp_path / "nothing")
    folder = evaluation(tmp_path / "run")
    picture = folder / "overlays" / "case_000.npz"
    for content in (b"", b"PK\x03\x04 cut", b"no archive"):
        picture.write_bytes(content)
        with pytest.raises(InputError, match="case_000.npz is not what an evaluation writes"):
            write_report(folder)
    np.savez(picture, index=np.array('[{"structure": "spleen"}]'))
    with pytest.raises(InputError, match="case_000.npz"):
        write_report(folder)
    for content in ("{", "[]", '{"protocol": {}}', '{"m": {"overall": {}}}'):
        (folder / "summary.json").write_text(content)
        with pytest.raises(InputError, match=r"summary\.json"):
            write_report(folder)
    (folder / "summary.json").unlink()
    with pytest.raises(InputError, match="no summary.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_several_data_sets_have_a_table_of_their_own(tmp_path):
    folder = evaluation(tmp_path / "run", names=("liver set/1", "liver set/2", "spleen set/1"))
    table = next(table for table in page(folder).tables if table[0][0].strip() == "Data set")
    assert [row[0].strip() for row in table[1:]] == ["liver set", "spleen set"]
    told = summary_of(folder)["datasets"]["spleen set"]["litemedsam"]["dice"]["mean"]
    assert number(told, "dice") in table[2][1]


def change_protocol(folder: Path, **more: Any) -> None:
    summary = summary_of(folder)
    summary["protocol"] |= more
    (folder / "summary.json").write_text(json.dumps(summary))


def test_the_data_sets_come_before_the_overall_table_and_tell_who_made_the_reference(tmp_path):
    folder = evaluation(tmp_path / "run", names=("ct/1", "ct/2", "us/1"))
    before = page(folder)
    assert [table[0][0].strip() for table in before.tables[:2]] == ["Data set", "Model"]
    assert "pooled in overall" in before.shown
    assert "a set of one patient leaves none" in before.shown
    assert "Reference" not in [cell.strip() for cell in before.tables[0][0]]
    manifests = [
        {"name": "us", "reference": "experts <3>", "cases": 1},
        {"name": "ct", "reference": "model output (TotalSegmentator)", "cases": 2},
    ]
    change_protocol(folder, manifests=manifests)
    after = page(folder)
    assert [row[-1].strip() for row in after.tables[0]] == [
        "Reference",
        "model output (TotalSegmentator)",
        "experts <3>",
    ]
    change_protocol(folder, manifests=manifests[:1])
    assert [row[-1].strip() for row in page(folder).tables[0][1:]] == ["–", "experts <3>"]


def test_the_reference_of_a_single_data_set_is_told_too(tmp_path):
    folder = evaluation(tmp_path / "run")
    change_protocol(folder, manifests=[{"name": "ct", "reference": "two radiologists", "cases": 3}])
    found = page(folder)
    assert found.tables[0][0][0].strip() == "Model"
    assert "Reference masks: two radiologists." in found.shown


def test_what_was_not_measured_is_counted_and_the_first_are_listed(plain, tmp_path):
    folder = evaluation(tmp_path / "run")
    assert "Not measured" not in plain[1].shown
    skipped = [{"case": f"c{n // 2}", "structure": f"<s{n}>", "why": "below 10 pixels"} for n in range(60)]
    change_protocol(folder, skipped=skipped)
    found = page(folder)
    assert "60 structures of 30 cases were not measured" in found.shown
    assert "the first 50 are listed" in found.shown
    table = next(table for table in found.tables if table[0][-1].strip() == "Why")
    assert [cell.strip() for cell in table[1]] == ["c0", "<s0>", "below 10 pixels"]
    assert len(table) == 51
    assert "#not-measured" in found.attributes("href")
    change_protocol(folder, skipped=[{"case": "c", "structure": None, "why": "no file"}])
    assert "1 structure of 1 case was not measured and is in no number" in page(folder).shown


def test_the_caution_tells_how_far_an_interval_can_be_trusted(plain):
    _, found = plain
    assert "with 5 to 10 patients a 95 % interval covers about 90 %" in found.shown
    assert "with fewer than 5 patients there is none" in found.shown


def test_a_tolerance_chosen_for_the_run_says_so(plain, tmp_path):
    folder = evaluation(tmp_path / "run")
    change_protocol(folder, nsd_tolerance_mm={"spleen": 3.5, "liver": 3.5})
    found = page(folder)
    assert found.shown.count("chosen for this run (the same for every structure)") == 2
    assert summary_of(plain[0])["protocol"]["nsd_tolerance_mm"] == {"spleen": 2.0, "liver": 5.0}
    assert "chosen for this run" not in plain[1].shown


def test_an_empty_answer_counts_in_the_median_of_the_page(tmp_path):
    folder = evaluation(tmp_path / "run")
    rows = pd.read_csv(folder / "metrics.csv")
    failed = (rows["case"] != "case_000") & (rows["structure"] == "liver") & (rows["model"] == "litemedsam")
    rows.loc[failed, ["dice", "hd95_mm"]] = [0.0, np.nan]
    rows.to_csv(folder / "metrics.csv", index=False)
    (folder / "summary.json").write_text(json.dumps(summary_of(folder) | summarise(rows, resamples=50)))
    found = page(folder)
    assert "median –, n 1 of 3" in found.shown
    assert "medians count an empty answer as infinitely far" in found.shown


def test_the_page_says_what_the_prompt_was(tmp_path):
    for prompt, said in (
        ("points:3", "slice by slice from 3 clicks drawn from the reference ("),
        ("point", "slice by slice from 1 click drawn"),
        ("box+5px+points:2", "at random and 2 clicks drawn from the reference ("),
        ("mask", "slice by slice from a rough mask made from the reference ("),
        ("propagate", "through the volume from one prompt a structure, the tight box of the reference on its middle"),
        ("scribble", "slice by slice from 1 scribble drawn from the reference ("),
        ("box+scribbles:3", "and 3 scribbles drawn from the reference ("),
        ("words", "slice by slice from the prompt “words”"),
    ):
        assert said in page(evaluation(tmp_path / prompt, cases=1, prompts=(prompt,))).shown


def test_propagation_has_one_prompt_a_structure_and_case(tmp_path):
    shown = page(evaluation(tmp_path / "run", prompts=("propagate",))).shown
    assert "(6 prompts)" in shown
    assert "scored is the whole volume" in shown
    assert "Only prompted slices count" not in shown
