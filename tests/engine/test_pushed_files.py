"""How weights reach an engine in a file: what is written, and what becomes of the file from push to push."""

import errno
import os
import shutil
import stat

import pytest
import torch
import xxhash
from safetensors.torch import load_file

from edco_rl import ConfigurationError, EngineConfig
from edco_rl.engine.exchange import exchange_folder, open_exchanged
from edco_rl.engine.protocol import EngineError, VLLMEngine
from edco_rl.engine.vllm_plugin import FILE_BACKEND
from edco_rl.engine.weight_file import WeightsRefusedError, read_weights, write_weights
from edco_rl.engine.weights.base import WeightVersionError
from edco_rl.engine.weights.file import FileTransport

from .wrong_pushes import wrong_weights


class Receiver(VLLMEngine):
    """Takes weights as the engine's workers do, and keeps them."""

    sees_local_files = True
    generate = read = open = world_size = None

    def __init__(self, folder, shapes, dtype):
        self.folder, self.shapes, self.torch_dtype = folder, shapes, dtype
        self.weights, self.version, self.files = {}, "default", []

    def dtype(self):
        return str(self.torch_dtype).removeprefix("torch.")

    def weight_transfer_backend(self):
        return FILE_BACKEND

    def init_weight_transfer_engine(self, init_info):
        with open_exchanged(self.folder, init_info["file"]):
            pass

    def start_weight_update(self):
        self.checked = None

    def update_weights(self, update_info):
        try:
            with open_exchanged(self.folder, update_info["file"]) as path:
                found = os.stat(path)
                self.checked = read_weights(path, self.shapes, self.torch_dtype, update_info["checksums"])
        except WeightsRefusedError as error:
            raise EngineError(str(error)) from error
        self.files.append((found.st_ino, stat.S_IMODE(found.st_mode)))

    def finish_weight_update(self, weight_version=None):
        self.weights = {name: tensor.clone() for name, tensor in self.checked.items()}
        self.version, self.checked = weight_version, None

    def update_weight_version(self, version):
        self.version = version

    def weight_version(self):
        return self.version

    def reset_prefix_cache(self):
        pass


@pytest.fixture
def weights():
    """Of every form a parameter can have; more values than are cast at a time."""
    torch.manual_seed(0)
    shapes = {"embed.weight": (1100, 1000), "norm.weight": (7,), "scale": (), "layer.weight": (5, 9), "empty": (0, 3)}
    made = {name: torch.randn(shape) for name, shape in shapes.items()}
    return made | {"transposed": torch.randn(40, 30).t(), "double": torch.randn(6, dtype=torch.float64)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_file_is_what_safetensors_reads_and_torch_casts(tmp_path, weights, dtype):
    path = tmp_path / "weights.safetensors"
    longer = {f"{name}.with_a_longer_name": torch.randn(3) for name in weights}
    for written in (weights, longer, weights, weights):  # over what was there
        checksums = write_weights(path, written.items(), dtype)
        found = load_file(path)
        assert found.keys() == checksums.keys() == written.keys()
        for name, tensor in written.items():
            assert found[name].dtype == dtype and torch.equal(found[name], tensor.to(dtype))
            content = tensor.to(dtype).contiguous().flatten().view(torch.uint8).numpy().tobytes()
            assert checksums[name] == xxhash.xxh3_128_hexdigest(content)


@pytest.fixture
def pushes(tmp_path, weights):
    """An engine in bfloat16, and what pushes to it from float32."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    engine = Receiver(exchange_folder(tmp_path), shapes, torch.bfloat16)
    transport = FileTransport(engine, EngineConfig(engine_transport_dir=str(tmp_path)))
    transport.connect()
    yield engine, transport
    transport.close()
    assert not os.listdir(engine.folder)


def expect(engine, weights):
    assert engine.weights.keys() == weights.keys()
    assert all(torch.equal(engine.weights[name], tensor.bfloat16()) for name, tensor in weights.items())


def test_pushes_write_over_one_file_of_the_users_own(pushes, weights):
    engine, transport = pushes
    for step in range(3):
        weights = {name: tensor + step for name, tensor in weights.items()}
        transport.push(list(weights.items()), step)
        expect(engine, weights)
    assert len(set(engine.files)) == 1 and engine.files[0][1] == 0o600
    assert len(os.listdir(engine.folder)) == 1


def test_a_refused_push_leaves_the_engine_and_what_it_may_still_read_as_they_were(pushes, weights):
    engine, transport = pushes
    transport.push(list(weights.items()), 1)
    for message, wrong in wrong_weights(weights).items():
        with pytest.raises(EngineError, match=message):
            transport.push(list(wrong.items()), 2)
        transport.verify()
        expect(engine, weights)
        assert not os.listdir(engine.folder)
    other = {name: -tensor for name, tensor in weights.items()}
    transport.push(list(other.items()), 3)
    expect(engine, other)
    transport.verify()
    engine.update_weight_version("another")
    with pytest.raises(WeightVersionError):
        transport.verify()


def test_a_file_that_was_removed_is_made_again(pushes, weights):
    engine, transport = pushes
    for remove in (lambda own: (own / "weights.safetensors").unlink(), shutil.rmtree):
        transport.push(list(weights.items()), 1)
        [own] = engine.folder.iterdir()
        remove(own)
        weights = {name: 2 * tensor for name, tensor in weights.items()}
        transport.push(list(weights.items()), 2)
        expect(engine, weights)


def test_a_full_folder_is_named_and_left_empty(pushes, weights):
    engine, transport = pushes

    def gathered():
        yield from list(weights.items())[:3]
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a write

    with pytest.raises(ConfigurationError, match=r"is full: the weights cannot be written.*--shm-size"):
        transport.push(gathered(), 1)
    assert not os.listdir(engine.folder) and engine.version == "default"
