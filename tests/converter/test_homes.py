"""The split: nothing of a test is seen in any training, for several seeds."""

import pytest

from tasuki.converter.homes import OWN_LABELS, homes, split


@pytest.mark.parametrize("seed", [0, 1, 1000])
def test_roles_share_no_template_and_no_sentence(seed: int) -> None:
    parts = split(seed, per_template=12)
    roles = {name: getattr(parts, name) for name in ("public", "validation", "gateway", "unseen")}
    private = {template.key for template in (*parts.private, *parts.own)}
    for name, commands in roles.items():
        assert commands
        assert not {c.template for c in commands} & private
        for other, others in roles.items():
            if other != name:
                assert not {c.template for c in commands} & {c.template for c in others}
                assert not {c.text for c in commands} & {c.text for c in others}


@pytest.mark.parametrize(("split_seed", "seed"), [(0, 1), (0, 2), (0, 3), (1000, 100)])
def test_tests_a_and_b_are_in_no_training(split_seed: int, seed: int) -> None:
    parts = split(split_seed)
    fleet = homes(parts, 12, seed)
    student = {c.text for c in (*parts.public, *parts.validation)}
    lived = {c.text for home in fleet for commands in home.rounds for c in commands}
    judged = {c.text for c in parts.gateway}
    for home in fleet:
        later = [c.text for c in home.later]
        assert len(set(later)) == len(later)
        # (a): no sentence that the student, any home or the gateway has met.
        assert not set(later) & (student | lived | judged)
    # (b): no template that anybody learned from or judged on, and so no sentence either.
    unseen = {c.template for c in parts.unseen}
    met = {c.template for home in fleet for commands in home.rounds for c in commands}
    met |= {c.template for c in (*parts.public, *parts.validation, *parts.gateway)}
    assert not unseen & met
    assert not {c.text for c in parts.unseen} & (student | lived | judged)


def test_the_student_never_sees_private_templates_or_own_intents() -> None:
    parts = split(0, per_template=12)
    assert not set(parts.labels) & set(OWN_LABELS)
    assert {template.label for template in parts.own} == set(OWN_LABELS)
    assert not {c.label for c in parts.public} & set(OWN_LABELS)


def test_homes_differ_and_repeat_by_seed() -> None:
    parts = split(0, per_template=12)
    first, again, other = (homes(parts, 4, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({home.own_labels for home in first}) > 1
    assert all(len(home.own_labels) == 3 for home in first)
