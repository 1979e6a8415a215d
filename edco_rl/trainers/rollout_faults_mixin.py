"""Rewards that cannot be trained on: found, left out as whole groups, and reported."""

from typing import Any

import torch
from accelerate.utils import gather_object

from ..curriculum.pool import IndexArray
from ..rewards import RewardError, checked
from ..rewards.checks import RewardFaults
from .batches import INDEX
from .curriculum_mixin import CurriculumMixin
from .ppo_functions import policy_mask


class RolloutFaultsMixin(CurriculumMixin):
    """Puts prompts into quarantine whose completions have a reward that cannot be trained on."""

    reward_funcs: list[Any]
    reward_func_names: list[str]
    num_generations: int
    _drawn: IndexArray
    """Prompts of what was generated last, of all ranks."""

    def _check_rewards(self, timeout: float | None) -> None:
        """Have rewards checked whenever they are given."""
        self._faults: RewardFaults = []  # of the completions this rank has made last
        self._unfit: torch.Tensor | None = None  # rows of a micro-batch with a log-probability that is not finite
        self.reward_funcs = [
            function
            if isinstance(function, torch.nn.Module)
            else checked(function, timeout=timeout, faults=self._faults)
            for function in self.reward_funcs
        ]

    def _leave_out_faults(self, rewards_per_func: torch.Tensor, local: int) -> None:
        """Take the rewards of groups at fault away, and put their prompts in quarantine.

        Args:
            rewards_per_func (`torch.Tensor`):
                Of all ranks, shape (B, F), NaN where a function gave none; changed in place.
            local (`int`):
                Completions of this rank.

        Raises:
            RewardError: In an evaluation, whose prompts cannot be left out.
            NotFiniteError: There are too many.
        """
        faults = self._all_faults(rewards_per_func, local)
        if not self.model.training:
            if faults:
                raise RewardError(f"In evaluation: {faults[0][1]}")
            return
        for row, _ in faults:  # the rest of a group says something else without it
            first = row // self.num_generations * self.num_generations
            rewards_per_func[first : first + self.num_generations] = torch.nan
        self.quarantine([(int(self._drawn[row // self.num_generations]), reason) for row, reason in faults])
        self._note_rewards(not bool(rewards_per_func.isnan().all()), self.reward_func_names)

    def _all_faults(self, rewards_per_func: torch.Tensor, local: int) -> RewardFaults:
        """What was at fault with the completions just made and their rewards, by their rows over all ranks."""
        first = self.accelerator.process_index * local
        faults: RewardFaults = gather_object([(first + row, reason) for row, reason in self._faults])
        self._faults.clear()
        for index, function in enumerate(self.reward_funcs):
            if isinstance(function, torch.nn.Module):  # models never leave a completion out
                values = rewards_per_func[:, index]
                said = f"Reward model {self.reward_func_names[index]!r} gave {{}} for completion {{}} of the batch."
                rows = (~values.isfinite()).nonzero().flatten().tolist()
                faults += [(row, said.format(values[row].item(), row)) for row in rows]
        return faults

    def _with_indices(self, output: dict[str, Any], indices: IndexArray, local: int) -> dict[str, Any]:
        """Note the prompt of each row, and take those in quarantine out of the loss.

        Args:
            output (`dict`):
                This rank's rollouts, as TRL keeps them.
            indices (`NDArray[np.int64]`):
                Prompts of the rollouts of all ranks.
            local (`int`):
                Rollouts of this rank.
        """
        quarantined = self.curriculum.pool.quarantined[indices]
        mine = slice(self.accelerator.process_index * local, (self.accelerator.process_index + 1) * local)
        mask = output["completion_mask"]
        output[INDEX] = torch.tensor(indices[mine], device=mask.device)
        if quarantined.any():
            output["completion_mask"] = mask * torch.tensor(~quarantined[mine], device=mask.device).unsqueeze(1)
            if "num_items_in_batch" in output:
                output["num_items_in_batch"] = self.accelerator.gather(policy_mask(output).sum()).sum()
        return output

    def _rows_at_fault(self, rows: list[int]) -> list[int]:
        """Those with a log-probability that is not finite, if there are any."""
        unfit = [] if self._unfit is None or len(self._unfit) != len(rows) else self._unfit.tolist()
        return [row for row, wrong in zip(rows, unfit, strict=True) if wrong] if any(unfit) else rows
