"""What a report says first."""

from __future__ import annotations

from segem.config.accept import parse_rules
from segem.records.expected import Abstains, Estimate, Expected
from segem.records.marks import SectionMark
from segem.records.quality import SectionFlag, SectionQuality
from segem.records.scores import Baseline, LayerScores, Report, Scores, SeenSections, VolumeScores
from segem.records.seams import SeamAudit
from segem.stages.reporting.opening import list_cautions, list_estimates, list_reasons
from segem.stages.reporting.verdict import judge_run, judge_volume

ESTIMATE = Expected(iou=Estimate(value=0.7, low=0.6, high=0.8), v_rand=None, distance=0.2, like="fly")
MEASURED = Scores(model=LayerScores(iou=0.9, precision=1, recall=1, rand=None, information=None))


def complete(name: str, **values: object) -> VolumeScores:
    return VolumeScores.model_validate({"name": name, "state": "complete", **values})


def run(*volumes: VolumeScores, rules: tuple[str, ...] = (), **values: object) -> Report:
    judged = tuple(one.model_copy(update={"verdict": judge_volume(one, parse_rules(rules))}) for one in volumes)
    facts = {"run": "r", "created": "", "segem_version": "1", "environment": {}, "model": None}
    made = {"volumes": judged, "accept": rules, "verdict": judge_run(judged)}
    return Report.model_validate(facts | made | values)


def test_estimates_are_of_volumes_that_were_not_measured_alone() -> None:
    measured = complete("seen", scores=MEASURED, expected=ESTIMATE)
    (said,) = list_estimates(run(measured, complete("blind", expected=ESTIMATE)))
    assert "blind 0.700 (0.600 to 0.800)" in said
    assert "seen" not in said
    assert "Nothing of this was measured" in said
    assert list(list_estimates(run(measured))) == []


def test_an_abstention_names_all_volumes_it_is_of() -> None:
    far = Abstains(abstains="the tissue is too unlike")
    (said,) = list_estimates(run(complete("a", expected=far), complete("b", expected=far)))
    assert said == (
        "How good the masks of a, b are, nobody knows: there is no truth, and no estimate, since the tissue is too "
        "unlike."
    )


def test_a_baseline_without_truth_is_not_trusted_either() -> None:
    (said,) = list_estimates(run(complete("a", baseline=Baseline(method="kmeans"))))
    assert said.startswith("Without truth nothing here says how good the masks of a are.")


def test_a_failed_volume_has_no_estimate() -> None:
    assert list(list_estimates(run(VolumeScores(name="torn", state="failed", reason="torn")))) == []


def test_cautions_name_what_the_model_has_used_and_what_stands_out() -> None:
    seen = (SeenSections(use="training", sections=((0, 3),)), SeenSections(use="calibration", sections=((5, 6),)))
    flags = tuple(SectionFlag(section=4, kind=kind, reason="") for kind in ("noise", "blank"))
    shows = SeamAudit(planes=1, shows=True, where="at rows 64", ratio=2.0)
    report = run(
        complete("used", scores=MEASURED, seen=seen),
        complete("flagged", flags=flags, quality=(SectionQuality(section=4),), seams=shows),
        marks=(SectionMark(volume="used", section=1, mark="bad"), SectionMark(volume="used", section=2, mark="good")),
    )
    assert list(list_cautions(report)) == [
        "The model was trained on sections of used (sections 0 to 2). Scores of these volumes do not show how it does "
        "on new data.",
        "The model has its calibration from sections of used (section 5). Calibration errors there are smaller than on "
        "new data.",
        "Seams show in flagged: do not use these masks.",
        "Sections stand out in quality in flagged (1).",
        "Readers have marked sections as bad: 1 of used.",
    ]


def test_reasons_are_of_what_is_not_accepted() -> None:
    good, bad = complete("good", ece=0.01), complete("bad", ece=0.2)
    torn = VolumeScores(name="torn", state="failed", reason="torn in two")
    assert list_reasons(run(good, bad, rules=("ece <= .1",))) == [
        "bad: rejected. Calibration error 0.2 is not at most 0.1."
    ]
    # Without rules all are to be reviewed for one reason, which the page says once.
    assert list_reasons(run(good, torn)) == ["torn: rejected. It failed: torn in two."]
