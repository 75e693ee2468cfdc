"""Which templates a change concerns, and faults found across shape and account."""

from __future__ import annotations

from templates.check import CheckContext, check_reading, concerned, read, referrers, targets
from templates.model import TemplateContent
from tests.templates.scenes import FRONT, make_scene


def account() -> dict[str, TemplateContent]:
    return {key: TemplateContent.model_validate(each) for key, each in make_scene().documents.items()}


def test_targets_and_referrers_are_each_others_reverse() -> None:
    """A template is referred to by exactly those that route to it."""
    templates = account()
    for key in templates:
        assert referrers(key, templates) == {other for other in templates if key in targets(templates[other])}
    assert targets(templates[FRONT]) == templates.keys() - {FRONT}


def test_change_of_a_target_concerns_its_referrers() -> None:
    """When an agent changes or goes, who routes to it is to be looked at again."""
    templates = account()
    agent = next(key for key in templates if key != FRONT)
    assert concerned(agent, templates[agent], None, templates) == {FRONT}


def test_change_of_routes_concerns_old_and_new_targets() -> None:
    """When an orchestrator's routes change, who lost and who gained a way in are looked at again."""
    templates = account()
    first, second = sorted(templates.keys() - {FRONT})
    routes = templates[FRONT].routes
    before = templates[FRONT].model_copy(update={"routes": routes[:1]})
    after = templates[FRONT].model_copy(update={"routes": routes[1:]})
    assert concerned(FRONT, before, after, templates) == {first, second}
    assert concerned(FRONT, None, after, templates) == {routes[1].template_id}


def test_faults_of_shape_do_not_hide_the_account() -> None:
    """A document with a misspelt field still learns that its target is missing."""
    document = make_scene().document
    document["lanugage"] = "en"
    document["routes"].insert(0, "billing")
    reading = read(document)
    assert reading.content is not None
    report = check_reading(reading, CheckContext(template_id=FRONT, templates={}, numbers={}))
    found = {(problem.pointer, problem.code) for problem in report.errors}
    assert {("/lanugage", "unknown_field"), ("/routes/0", "wrong_type")} < found
    assert {("/routes/1/template_id", "target_missing"), ("/number_id", "number_unknown")} < found
