"""The weight-transfer engine behind `edco_rl.engine.vllm_plugin`, imported inside vLLM's workers only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from .exchange import exchange_folder, open_exchanged
from .model_identity import check_same, describe, parameter_shapes
from .vllm_plugin import EXCHANGE_FOLDER
from .weight_file import Shapes, WeightsRefusedError, read_weights


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """What a trainer expects of the engine.

    Args:
        file (`str`):
            A file it has put into the exchange folder, which the worker must find.
        model (`dict[str, Any]`):
            Its model, as [`~edco_rl.engine.model_identity.describe`] says; `with_weights` is whether the engine must
            have been started from the same weights. Empty where nothing is known of it.
    """

    file: str
    model: dict[str, Any]


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One update.

    Args:
        file (`str`):
            A safetensors file in the exchange folder, with all parameters under the names they have in transformers.
        checksums (`dict[str, str]`):
            Checksum of each, as [`~edco_rl.engine.weight_file.checksums`] makes them.
    """

    file: str
    checksums: dict[str, str]


class FileWeightTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Loads whole checkpoints through vLLM's layerwise reload, which repacks weights as a first load does.

    A file is checked whole when it is named (`update_weights`). Nothing changes before `finish_weight_update`, as vLLM
    leaves a model that is half loaded unusable.

    Works on any device, and where weights are repacked after loading (vLLM's CPU kernels), so that writing into the
    live parameters is not possible.
    """

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    supports_draft_weight_update = False
    _checked: dict[str, torch.Tensor] | None = None
    _shapes: Shapes | None = None

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Called by each trainer before its first push."""
        with open_exchanged(self._folder(), init_info.file):
            pass
        expected = dict(init_info.model)
        with_weights = expected.pop("with_weights", False)
        if expected:
            check_same(expected, describe(self.model_config.model), weights=with_weights)
        self._heal()

    def _folder(self) -> Path:
        agreed = self.vllm_config.additional_config.get(EXCHANGE_FOLDER)
        return exchange_folder(None) if agreed is None else Path(agreed)

    def _heal(self) -> None:
        """Clear what an earlier trainer's model has left in the key-value cache, where its values were not finite.

        Attention multiplies what it masks with zero, which such a value survives, so that it spoils later answers.
        """
        for layer in self.vllm_config.compilation_config.static_forward_context.values():
            cached = getattr(layer, "kv_cache", None)
            for values in cached if isinstance(cached, list | tuple) else [cached]:
                # Of one byte, as quantized caches are, it has no sum.
                if isinstance(values, torch.Tensor) and values.element_size() > 1 and not values.sum().isfinite():
                    values.zero_()

    def start_weight_update(self) -> None:
        self._checked = None

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # The base class ends with a device synchronization that raises where there is no accelerator.
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        with open_exchanged(self._folder(), update_info.file) as path:
            if self._shapes is None:
                config = self.model_config
                self._shapes = parameter_shapes(config.model, trust_remote_code=config.trust_remote_code)
            self._checked = read_weights(path, self._shapes, self.model_config.dtype, update_info.checksums)

    def finish_weight_update(self) -> None:
        checked, self._checked = self._checked, None
        if checked is None:
            raise WeightsRefusedError("No weights were sent.")
        initialize_layerwise_reload(self.model)
        try:
            self.model.load_weights(iter(checked.items()))
        finally:  # also gives parameters that were not loaded their memory back
            finalize_layerwise_reload(self.model, self.model_config)
        for module in self.model.modules():
            # On a CPU the head multiplies with a packed copy of its weight. A head tied to the embeddings is not
            # loaded itself, so the reload leaves that copy as it was: pack it again.
            if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """Nothing is held between updates."""
