"""How a student is made: all that its training depends on but the teacher, the texts and the shape."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Chosen on split seeds from 1000 on.

    `hard`, `soft`, `feature`, `alike` and `relation` weigh the losses (`losses`), `soft` at `temperature`. New texts
    are made of the given ones (`lessons.invent`): as many as are missing to `texts`, at least the share `extra` of the
    given and at most `growth` for each. `dropped_words` is the share of pieces that training hides. It ends after
    `epochs` (None: at least 12, and more for few texts), or the share `patience` of them without a better one; then
    come `tuning` epochs with simulated integers (`qat`), at `tuning_rate`. `per_template` is how many commands of each
    template the standard texts have (`homes.split`).

    `relation` brought nothing beside `feature` on commands that no template was shared with, and relations
    take a second reading by the teacher, so they are off here.
    """

    seed: int = 0
    epochs: int | None = None
    patience: float = 0.4
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    temperature: float = 2.0
    hard: float = 0.5
    soft: float = 0.5
    feature: float = 2.0
    alike: float = 0.0
    relation: float = 0.0
    dropped_words: float = 0.06
    per_template: int = 40
    texts: int = 6000
    extra: float = 0.3
    growth: float = 2.0
    tuning: int = 2
    tuning_rate: float = 2e-4

    def losses(self) -> dict[str, float]:
        """The weights of the losses."""
        return {name: getattr(self, name) for name in ("hard", "soft", "feature", "alike", "relation")}

    def labels_only(self) -> "Recipe":
        """The same training without a teacher: what distillation is compared with."""
        return replace(self, hard=1.0, soft=0.0, feature=0.0, alike=0.0, relation=0.0)
