"""Faults in real runs, in rooms by kind."""

import os

# Before torch is imported: runs are forked from this process, and a pool of OpenMP's threads would not be there.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["COLUMNS"] = "200"
for _name, _value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("TRL_EXPERIMENTAL_SILENCE", "1")):
    os.environ.setdefault(_name, _value)
