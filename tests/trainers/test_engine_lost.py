"""A trainer whose engine is lost for good: it leaves a checkpoint, and nothing is passed over."""

import pytest

from edco_rl import CurriculumConfig, EngineConfig, EngineLostError

from .support import TRAINERS, length_reward, sums

CONFIG = CurriculumConfig(strategy="random")


def test_a_run_whose_engine_is_lost_leaves_a_checkpoint_and_passes_no_prompts_over(tiny_model_path, tmp_path):
    def make(engine):
        kind, config, settings = TRAINERS["grpo"]
        changes = {"output_dir": str(tmp_path), "max_steps": 3}
        engine = EngineConfig(engine_mode=f"tests.engine.own:{engine}")
        return kind(
            tiny_model_path, length_reward, config(**settings | changes), sums(40), curriculum=CONFIG, engine=engine
        )

    trainer = make("LosingEngine")
    with pytest.raises(EngineLostError, match=rf"SIGKILL.* step 2 is done: resume_from_checkpoint {tmp_path}") as lost:
        trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    assert str(lost.value).endswith(f"{checkpoint}.")
    batch = trainer.curriculum.batch.tolist()
    trainer.close()

    trainer = make("CopiedModel")
    trained = []
    trainer.outcome_observers.append(lambda outcomes: trained.append([one.index for one in outcomes]))
    trainer.train(resume_from_checkpoint=str(checkpoint))
    trainer.close()
    assert trained == [batch] and trainer.curriculum.pool.visits.sum() == 3 * len(batch)
