"""The bar of the causal student, with the real teacher and people who were never heard."""

import pytest

from tasuki.converter import arena, causal_gain
from tasuki.sdk import artifact
from tasuki.sdk.console import progress_bars


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_student_of_smollm2_beats_the_one_of_the_text_alone() -> None:
    with progress_bars() as progress:
        made = causal_gain.build(progress)
    figures = made.figures
    assert figures["gain_lower"] > 1
    assert figures["perplexity_teacher_adapted"] < figures["perplexity_student"] < figures["perplexity_text_alone"]
    assert figures["int8_over_float"] < 1.02
    assert figures["artifact_bytes"] <= 2_000_000
    model = artifact.load(made.artifact).model
    assert arena.measured_arena(model) == figures["arena_bytes"] <= 512_000
