"""A training that is killed again and again ends in the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from thinc.api import Config

from .runs import digest, with_extras


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_hundred_kills(config: Config, tmp_path: Path) -> None:
    config["training"]["max_steps"] = 40
    config["training"]["eval_frequency"] = 10
    config["training"]["optimizer"].update(spike_guard="clip_mean", average_decay=0.9)
    with_extras(config, checkpoint_steps=1).to_disk(tmp_path / "config.cfg", interpolate=False)
    digests = []
    for hash_seed in ("0", "1"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        command = [sys.executable, str(Path(__file__).with_name("kills.py"))]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, str(tmp_path / "config.cfg"), str(folder), "50", hash_seed],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["killed"] >= 50
        assert result["writing"] >= 10
        digests += [digest(folder / name) for name in ("whole", *(f"run{i}" for i in range(result["finished"])))]
    assert all(other == digests[0] for other in digests)
