"""What starts runs elsewhere: containers, Slurm and accelerate. Commands are read as the command line reads them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from edco_rl.cli import SETTINGS
from edco_rl.methods import METHODS
from edco_rl.parsing import Group, Parser
from edco_rl.runs.options import method_parser

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "recipes" / "accelerate_configs").iterdir())


def check_command(words):
    """Read a command of edco-rl; an unknown flag or value is an error."""
    if words[0] == "train":
        return method_parser(METHODS[words[1]], "edco-rl").read(words[2:]).values
    return Parser("edco-rl", [Group("settings", of) for of in SETTINGS[words[0]]]).read(words[1:]).values


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_knows_every_setting(path):
    config = load_config_from_file(str(path))
    kinds = {"fsdp2": DistributedType.FSDP, "zero3": DistributedType.DEEPSPEED, "multi_gpu": DistributedType.MULTI_GPU}
    assert config.distributed_type == kinds.get(path.stem, config.distributed_type)


def test_services_run_what_exists(monkeypatch):
    monkeypatch.chdir(ROOT)
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for service in services.values():
        if "build" in service:
            assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        if "command" in service:
            words = [word[2:-1].partition(":-")[2] if word.startswith("${") else word for word in service["command"]]
            assert check_command(words)["model_name_or_path"] == "Qwen/Qwen3-4B"
    assert services["trainer"]["depends_on"]["server"]["condition"] == "service_healthy"


def test_a_slurm_job_serves_on_its_first_node_and_trains_on_the_others(tmp_path, monkeypatch):
    """With stand-ins for Slurm's commands, and for what they start; all of them write down how they were called."""
    record = (
        '#!/bin/bash\npython3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$(basename $0)" "$@" >> calls\n'
    )
    programs = {
        "scontrol": "#!/bin/bash\nprintf 'n1\\nn2\\nn3\\n'\n",
        "curl": record,
        "edco-rl": record + 'test -n "$VLLM_API_KEY" && exec sleep 60\n',
        "accelerate": record,
        "srun": record + 'while [[ $1 == --* ]]; do shift; done\nSLURM_PROCID=1 SLURM_GPUS_ON_NODE=4 exec "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = Path(sys.executable).parent  # activated, as the job's lines say
    monkeypatch.setenv("PATH", f"{tmp_path}:{environment}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3]")
    monkeypatch.setenv("SLURM_NNODES", "3")
    recipe = str(ROOT / "recipes" / "communication" / "grpo_edco.yaml")
    script = ["bash", str(ROOT / "recipes" / "slurm" / "train.slurm"), "grpo", recipe, "a model"]
    subprocess.run(script, cwd=tmp_path, check=True, timeout=60)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    [serve], [launch] = ([call[1:] for call in calls if call[0] == name] for name in ("edco-rl", "accelerate"))
    assert check_command(serve) == {"model_name_or_path": "a model", "engine_host": "0.0.0.0", "engine_port": 8000}
    own, train = launch[: launch.index("-m")], launch[launch.index("-m") + 2 :]
    given = dict(zip(own[1::2], own[2::2], strict=True))
    assert given["--num_machines"] == "2" and given["--num_processes"] == "8" and given["--machine_rank"] == "1"
    assert given["--main_process_ip"] == "n2"
    values = check_command(train)
    assert values["engine_url"] == "http://n1:8000" and values["model_name_or_path"] == "a model"
    [on_first, on_others] = [call for call in calls if call[0] == "srun"]
    assert "--nodelist=n1" in on_first and {"--nodes=2", "--exclude=n1"} <= set(on_others)
