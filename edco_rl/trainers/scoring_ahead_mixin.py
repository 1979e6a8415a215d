"""When a trainer has its rows scored: at a renewal of the curriculum, or while the optimizer works before it."""

import logging
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from accelerate.utils import broadcast_object_list

from ..config import CurriculumConfig
from ..curriculum import Outcome
from ..curriculum.pool import IndexArray
from ..engine.protocol import EngineLostError
from ..entropy import Score
from .engine_mixin import EngineMixin
from .hidden_states_mixin import HiddenStatesMixin

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringBegun:
    """A scoring that goes on beside the optimizer.

    Args:
        step (`int`):
            The optimizer step its renewal is due at.
        wanted (`NDArray[np.int64]`):
            The prompts.
        version (`int`):
            Optimizer step of the weights they are scored with.
        scores (`Future`, *optional*):
            What comes of it; `None` on ranks that leave it to the main process.
    """

    step: int
    wanted: IndexArray
    version: int
    scores: Future[list[Score]] | None


class ScoringAheadMixin(HiddenStatesMixin, EngineMixin):
    """Renews a trainer's curriculum, with `curriculum_scoring_ahead` by scores made during the step before.

    The engine scores with the weights that step began with, once it has made the step's rollouts, while the optimizer
    works. Which prompts it scores is decided when it begins, and nothing is waited for before the renewal: what a run
    does is the same however long it takes. No checkpoint falls in between.
    """

    observe: Any
    _begin_round: Any
    _finite_scores: Any
    _curriculum_config: CurriculumConfig
    _scoring: ScoringBegun | None = None

    def renews_at(self, step: int) -> bool:
        """Whether a new curriculum is due at an optimizer step."""
        return step % self._curriculum_config.curriculum_interval == 0 and step < self.state.max_steps

    def renew_curriculum(self) -> None:
        """Score what the strategy wants, and let it form the next curriculum. The same on every rank."""
        step = self.state.global_step
        outcomes = self._outcomes_of_scoring(step)
        if outcomes:
            outcomes = self._finite_scores(outcomes)
            self.observe(outcomes)
        self.observe_hidden_states([outcome.index for outcome in outcomes])
        notice = self.curriculum.renew(step)
        if notice is not None and self.accelerator.is_main_process:
            logger.warning(notice)
        self._begin_round()

    def _outcomes_of_scoring(self, step: int) -> list[Outcome]:
        begun, self._scoring = self._scoring, None
        if begun is not None and begun.step == step:
            found = self._scored_ahead(begun)
            if found is not None:
                return found
            wanted = begun.wanted
        else:
            wanted = self._wanted()
        if not len(wanted):
            return []
        with self.sampling():
            return self._spread("scoring", wanted, self._score)

    def _wanted(self) -> IndexArray:
        return self.curriculum.wants(self._curriculum_config.curriculum_candidates)

    @property
    def scores_in_this_step(self) -> bool:
        """Whether prompts are to be scored while the optimizer works on this step."""
        return self._curriculum_config.curriculum_scoring_ahead and self.renews_at(self.state.global_step + 1)

    def begin_scoring(self) -> None:
        """Have prompts scored from now on, unless none are to be in this step, or it has begun. The same on every
        rank."""
        step = self.state.global_step + 1
        if not self.scores_in_this_step or (self._scoring is not None and self._scoring.step == step):
            return
        wanted, scores = self._wanted(), None
        if len(wanted):
            self.sync_engine()
            if self.accelerator.is_main_process:
                engine, scorer = self.engine, self._scorer
                rows = self._encoded(wanted.tolist())  # here: tokenizers belong to one thread

                def score() -> list[Score]:
                    with engine.without_recovery():
                        return scorer.score(rows, engine)

                scores = self._background.begin("scoring", score)
        self._scoring = ScoringBegun(step, wanted, self.state.global_step, scores)

    def _scored_ahead(self, begun: ScoringBegun) -> list[Outcome] | None:
        """What came of a scoring; `None` where the engine was lost on the way. A collective.

        Raises:
            EngineError: The engine failed otherwise.
            WeightVersionError: It has other weights than those pushed last.
        """
        if not len(begun.wanted):
            return []
        found: list[list[Outcome] | None] = [None]
        if begun.scores is not None:
            assert self._connection is not None
            try:
                scores = self._background.result(begun.scores)
                self._connection.transport.verify()
                found = [self._outcomes_from(begun.wanted.tolist(), scores, begun.version)]
            except EngineLostError as error:
                logger.warning("%s The prompts are scored again.", error)
        return broadcast_object_list(found)[0]

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Have prompts scored while the optimizer works, where no rollouts of this step have begun that."""
        if model.training:
            self.begin_scoring()
        return super().compute_loss(model, *args, **kwargs)
