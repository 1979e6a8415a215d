"""Trains on a tiny model without an engine and records, at every step, what each rank drew and the state it is in.

    python -m tests.distributed.run SETTINGS.json

Without an argument it waits for runs, each a line of JSON, and trains in forks of itself: what is imported is imported
once.

Generation is deterministic, and the same for any number of processes: completion i of a group starts with the policy's
i-th most probable token.
"""

import hashlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer, EngineConfig
from edco_rl.curriculum import Strategy
from edco_rl.store import UNFINISHED_FOLDER


def rank():
    return int(os.environ.get("RANK", "0"))


class Drifting(Strategy):
    """A strategy that does what none may do: it depends on the rank."""

    def select(self, n):
        return np.arange(n) + rank()


class DeterministicTrainer(CurriculumGRPOTrainer):
    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations):
        completions = []
        for i, prompt in enumerate(prompt_ids, start=rank() * len(prompt_ids)):
            with torch.no_grad():
                logits = self.model(torch.tensor([prompt])).logits[0, -1]
            completions.append([int(logits.topk(2).indices[i % 2]), *prompt[:2]])
        return completions, None


def reward(completions, prompts, **kwargs):
    """Differs within the groups of two prompts in three."""
    numbers = [int(prompt.split()[0]) for prompt in prompts]
    start = rank() * len(prompts)  # a group can be spread over ranks
    return [float(i % 2 and number % 3 > 0) + number / 100 for i, number in enumerate(numbers, start)]


class Recorder(TrainerCallback):
    """Writes one line a step: prompt ids drawn since the last, a hash of the curriculum's state, the loss."""

    def __init__(self, trainer, path, kill_at=None, signal_at=None, signal=None):
        self.trainer = trainer
        self.path = path
        self.kill_at = kill_at
        self.signal_at, self.signal = signal_at, signal
        self.drawn = []
        draw = trainer.curriculum.draw

        def recording(n):
            chosen = draw(n)
            self.drawn += trainer.curriculum.pool.ids_of(chosen)
            return chosen

        trainer.curriculum.draw = recording

    def on_step_end(self, args, state, control, **kwargs):
        plain = json.dumps(self.trainer.curriculum.state_dict(), default=lambda array: array.tolist())
        weights = sum(float(p.detach().double().abs().sum()) for p in self.trainer.model.parameters())
        self.write(step=state.global_step, ids=self.drawn, state=hashlib.sha256(plain.encode()).hexdigest(), w=weights)
        self.drawn = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.write(step=state.global_step, loss=logs["loss"], grad_norm=logs["grad_norm"])

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.signal_at:
            os.kill(os.getpid(), self.signal)

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.kill_at:
            os.kill(os.getpid(), 9)

    def write(self, **line):
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def kill_before(name):
    """Kill this process just before it opens a file of an unfinished checkpoint, or gives a name, that begins so.

    A file that torch writes is half written then.
    """
    save = torch.save

    def half(value, file, *args, **kwargs):
        save(value, file, *args, **kwargs)
        if Path(file).name.startswith(name):
            os.truncate(file, Path(file).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def look(event, arguments):
        if event in ("open", "os.rename") and isinstance(arguments[event == "os.rename"], str | os.PathLike):
            path = Path(arguments[event == "os.rename"])
            if path.name.startswith(name) and (event == "os.rename" or UNFINISHED_FOLDER in path.parts):
                os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    sys.addaudithook(look)


def main(settings):
    torch.set_num_threads(1)
    folder = Path(settings["folder"])
    args = GRPOConfig(
        output_dir=str(folder),
        report_to="none",
        bf16=False,
        use_cpu=True,
        optim="sgd",  # Adam would blow up differences in rounding between one process and two
        learning_rate=0.1,
        gradient_checkpointing=False,
        logging_steps=1,
        disable_tqdm=True,
        max_completion_length=3,
        num_generations=2,
        save_steps=1,
        **settings["args"],
    )
    rows = Dataset.from_dict({"prompt": [f"{i} + {i * i} =" for i in range(settings["rows"])]})
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
    model.get_input_embeddings().weight.data *= 20  # entropies that differ by more than rounding
    engine = EngineConfig(**settings["engine"]) if "engine" in settings else None
    kind = DeterministicTrainer if engine is None else CurriculumGRPOTrainer
    trainer = kind(model, reward, args, rows, curriculum=CurriculumConfig(**settings["curriculum"]), engine=engine)
    path = folder / f"record_{trainer.accelerator.process_index}.jsonl"
    events = ("kill_at", "signal_at", "signal")
    trainer.add_callback(Recorder(trainer, path, **{name: settings.get(name) for name in events}))
    if "kill_before" in settings:
        kill_before(settings["kill_before"])
    trainer.train(resume_from_checkpoint=settings.get("resume"))


def fork(path, log, environment):
    """Train in a fork; its process id."""
    if pid := os.fork():
        return pid
    os.environ.update(environment)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        main(json.loads(Path(path).read_text()))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def serve():
    """Forks as many ranks as each line asks for, and answers with the first exit code that is not 0, or 0."""
    for line in map(json.loads, sys.stdin):
        size = line["processes"]
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(line["port"]), "ACCELERATE_USE_CPU": "true"}
        of_ranks = [{"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": str(size)} | common for n in range(size)]
        left = {fork(line["settings"], line["log"], one if size > 1 else {}) for one in of_ranks}
        worst = 0
        while left:
            pid, status = os.wait()
            left.discard(pid)
            if worst == 0 and (worst := os.waitstatus_to_exitcode(status)) != 0:
                for other in left:
                    os.kill(other, signal.SIGKILL)
        print(worst, flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text())) if sys.argv[1:] else serve()
