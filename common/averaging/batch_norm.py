"""BatchNorm's statistics for a network whose weights no batch has passed through yet."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.errors import InputError


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether a network has BatchNorm with running statistics."""
    return any(isinstance(module, _BatchNorm) and module.running_mean is not None for module in model.modules())


@torch.no_grad()
def reestimate_batch_norm(
    model: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object] | None = None
) -> None:
    """Replace BatchNorm's running statistics by the mean of those of ``batches``, every batch weighing the same.

    ``mean = 1/B · Σ_b mean_b`` and ``var = 1/B · Σ_b var_b`` (unbiased within a batch), which is BatchNorm's own
    cumulative average (``momentum=None``). Dropout stays off and other layers in eval mode, as at inference. Modes and
    momenta are as before afterwards. A network without such statistics is left alone and no batch is asked for.

    Args:
        model: The network; changed in place.
        batches: Training inputs, moved to the network's device; batches alike in size to the training's.
        forward: What to call on a batch, default ``model``; it must pass through every layer that is to be estimated.

    Raises:
        InputError: there is no batch; the statistics are as before then.
    """
    # Not torch.optim.swa_utils.update_bn: it cannot take the dicts of our loaders, sends the batches through live
    # dropout, and without any batch leaves mean 0 and variance 1 without a word.
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return
    device = next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    before = [(norm, norm.momentum, {key: value.clone() for key, value in norm.state_dict().items()}) for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    done = False
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.training = True
        for batch in batches:
            (forward or model)(batch.to(device))
            done = True
        if not done:
            raise InputError("there is no training batch to re-estimate BatchNorm's statistics from; give at least one")
    except BaseException:
        for norm, _, state in before:
            norm.load_state_dict(state)
        raise
    finally:
        for norm, momentum, _ in before:
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
