"""What vLLM runs in each of its processes: the weight-transfer backend of `file`, repairs for CPUs, and an end to it.

vLLM finds `register` through the entry point group `vllm.general_plugins` and calls it in each of its processes. The
trainer side is `edco_rl.engine.weights.file.FileTransport`.
"""

import multiprocessing

from .processes import die_with_server

FILE_BACKEND = "edco_rl_file"
EXCHANGE_FOLDER = "edco_rl_exchange_folder"
"""Key in vLLM's `additional_config` of the one folder an engine reads weights from."""
ALL_ROUTES = "edco_rl_all_routes"
"""Key there of whether a server answers on all of vLLM's routes."""


def register() -> None:
    """Register the backend with vLLM, once a process, and have the process end with the one that started it.

    The engine class is imported when a server asks for it.
    """
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
    from vllm.platforms import current_platform

    die_with_server()
    # vLLM calls plugins more than once in some processes, and its registry refuses a second registration.
    if FILE_BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(
            FILE_BACKEND, "edco_rl.engine.vllm_file_backend", "FileWeightTransferEngine"
        )
    if multiprocessing.parent_process() is None:
        from . import vllm_coordinator

        vllm_coordinator.apply()
    if current_platform.is_cpu():
        from . import vllm_cpu_lora, vllm_cpu_polling

        vllm_cpu_lora.apply()
        vllm_cpu_polling.apply()
