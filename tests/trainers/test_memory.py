"""What a trainer on a CPU asks of the C library."""

import json
import subprocess
import sys

import pytest

TRAIN = """
import json, random, resource
import torch
from edco_rl.trainers.memory import keep_freed_memory

def train():
    model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)], torch.nn.Linear(512, 32768))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(12):
        if step == 6:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        loss = model(torch.randn(random.Random(step).randint(300, 420), 512)).log_softmax(-1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_minflt - before, used.ru_maxrss

given_back = train()
keep_freed_memory()
print(json.dumps([given_back, train()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_is_freed_is_used_again():
    """Its pages in place of new ones, each of which costs a fault; fragments cost some memory."""
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, check=True, text=True)
    (faults_before, kibibytes_before), (faults, kibibytes) = json.loads(done.stdout)
    assert faults < faults_before / 3 and kibibytes < 2 * kibibytes_before
