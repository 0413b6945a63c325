"""Studies set against each other: what is compared, with what numbers, and what is refused."""

import re

import pandas as pd
import pytest
from scipy import stats

from bench import records
from bench.analysis import selection
from bench.report import __main__ as command
from bench.report import joined, style
from bench.report.contents import Contents, gather
from bench.report.sections import convergence, differences
from tests.report import synthetic
from tests.report.synthetic import BITS, write_study


@pytest.fixture(autouse=True)
def few_figures(monkeypatch):
    monkeypatch.setattr(convergence, "AXES", convergence.AXES[:1])
    monkeypatch.setattr(Contents, "curve_metrics", synthetic.one_curve)
    monkeypatch.setattr(style, "PNG_DPI", 30)


def before_and_after(tmp_path, *, seeds=(range(5), range(5)), **changed):
    """Two studies, of which the second lacks an optimizer, and differs in what is given."""
    before, after = tmp_path / "before", tmp_path / "after"
    write_study(before, lrs=(1e-3, 1e-2), optimizers=("momentum", "adam", "sgd"), seeds=seeds[0])
    options = {"settings": [{"init": "zeros"}]} | changed
    write_study(after, lrs=(1e-3, 1e-2), optimizers=("momentum", "adam"), seeds=seeds[1], **options)
    return before, after


def test_each_optimizer_is_compared_with_itself_over_the_seeds_that_both_have(tmp_path):
    before, after = before_and_after(tmp_path, seeds=(range(5), range(1, 7)))
    contents = gather(joined.read([before, after]))
    found = differences.table(contents)
    assert list(found["optimizer"]) == ["adam", "momentum"]
    runs = contents.study.runs.assign(test=selection.score(contents.study.runs, "test"))
    for row in found.to_dict("records"):
        scores = {}
        for name in ("before", "after"):
            own = runs[runs["optimizer"] == f"{row['optimizer']} ({name})"]
            own = own.assign(score=selection.score(own))
            best = own.groupby("lr")["score"].mean().idxmax()
            scores[name] = own[own["lr"] == best].set_index("seed")["test"].loc[[1, 2, 3, 4]]
        oracle = stats.ttest_rel(scores["after"], scores["before"])
        interval = oracle.confidence_interval(0.95)
        assert row["seeds"] == 4
        assert row["difference"] == pytest.approx((scores["after"] - scores["before"]).mean())
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


def test_the_page_says_what_differs(tmp_path, capsys):
    before, after = before_and_after(tmp_path)
    assert command.main([str(before), str(after)]) == 0
    report = tmp_path / "compare" / "before-vs-after"
    assert f"report   {report / 'index.html'}" in capsys.readouterr().out
    html = (report / "index.html").read_text()
    assert re.search(
        r"<td[^>]*>workload.model.init</td>\s*<td[^>]*>default</td>\s*<td[^>]*>zeros", html
    )
    assert 'class="headline"' in html
    assert f"python -m bench.report {before} {after}" in html
    rows = pd.read_csv(report / "configurations.csv")
    assert dict(zip(rows["what"], rows["after"], strict=True)) == {"workload.model.init": "zeros"}
    drawn = pd.read_csv(report / "differences_mnist_mlp.csv")
    assert list(drawn["optimizer"]) == ["adam (after)", "momentum (after)"]
    assert not (before / "report").exists()
    assert command.main([str(before), str(after)]) == 0  # over the one before


def test_studies_that_are_the_same_do_not_differ(tmp_path):
    before, after = before_and_after(tmp_path, settings=[{}], study="before")
    contents = gather(joined.read([before, after]))
    found = differences.table(contents)
    assert (found["difference"] == 0).all()
    assert "cannot be told apart" in differences.headline(contents)


@pytest.mark.parametrize("seeds", [((0, 1, 2), (3, 4, 5)), ((0, 1), (0, 1))])
def test_without_shared_seeds_nothing_is_claimed(tmp_path, seeds):
    contents = gather(joined.read(before_and_after(tmp_path, seeds=seeds)))
    assert differences.table(contents)["low"].isna().all()
    assert "cannot be compared" in differences.headline(contents)


def test_three_studies_of_the_same_name_are_told_apart(tmp_path, capsys):
    places = [tmp_path / name / "study" for name in "abc"]
    for place in places:
        write_study(place, lrs=(1e-3,), optimizers=("adam",))
    study = joined.read(places)
    assert list(study.parts) == ["a/study", "b/study", "c/study"]
    assert study.directory == tmp_path / "a" / "compare" / "a_study-vs-b_study-vs-c_study"
    assert len(differences.table(gather(study))) == 2


def test_studies_may_have_no_optimizer_in_common(tmp_path, capsys):
    for name in ("adam", "sgd"):
        write_study(tmp_path / name, lrs=(1e-3, 1e-2), optimizers=(name,))
    out = tmp_path / "out"
    arguments = [str(tmp_path / "adam"), str(tmp_path / "sgd"), "--output", str(out)]
    assert command.main(arguments) == 0
    assert "adam (adam)" in (out / "index.html").read_text()


def test_one_optimizer_of_several_studies_keeps_its_colour():
    looks = style.looks(["adam (a)", "adam (b)", "sgd (a)", "mine (b)"])
    assert list(looks) == ["sgd (a)", "adam (a)", "adam (b)", "mine (b)"]
    assert looks["adam (a)"] == style.LOOKS["adam"]
    assert looks["adam (b)"].colour == looks["adam (a)"].colour
    assert looks["adam (b)"].dash != looks["adam (a)"].dash


def twice(tmp_path):
    before, _ = before_and_after(tmp_path)
    return [before, before.parent / "." / "before"]


def within(tmp_path):
    before, _ = before_and_after(tmp_path)
    return [before, before / "mnist_mlp"]


def other_workloads(tmp_path):
    return before_and_after(tmp_path, workloads=("cifar10_linear",))


def other_metric(tmp_path):
    return before_and_after(tmp_path, metric=BITS)


def nowhere(tmp_path):
    return [before_and_after(tmp_path)[0], tmp_path / "nowhere"]


def unfinished(tmp_path):
    before, after = before_and_after(tmp_path)
    for path in after.rglob(records.FILE_NAME):
        path.unlink()
    return [before, after]


def somebody_elses(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.png").write_text("mine")
    return [*before_and_after(tmp_path), "--output", tmp_path / "out"]


def output_of_one(tmp_path):
    return [before_and_after(tmp_path)[0], "--output", tmp_path / "out"]


REFUSED = {
    twice: "given twice",
    within: "lies within another",
    other_workloads: "the studies share no workload: before has mnist_mlp; after has cifar10",
    other_metric: "mnist_mlp is not judged by the same metric",
    nowhere: "no such directory",
    unfinished: "has no finished run to compare",
    somebody_elses: "holds something else than a report",
    output_of_one: "only for several studies",
}


@pytest.mark.parametrize(("make", "message"), REFUSED.items(), ids=lambda make: str(make)[:20])
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, make, message):
    arguments = [str(argument) for argument in make(tmp_path)]
    there = set(tmp_path.rglob("*"))
    assert command.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert set(tmp_path.rglob("*")) == there
