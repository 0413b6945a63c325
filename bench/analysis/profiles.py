"""Performance profiles of times to a target, over workloads."""

import numpy as np


def performance_ratios(times: np.ndarray) -> np.ndarray:
    """Each time over the shortest on its workload: ``[W, O] -> [W, O]``.

    ``r = t / min over optimizers of t`` (Dolan & More 2002, section 2). A target never reached
    (NaN or infinity) has ratio infinity, as everything has on a workload where nobody reached it.
    """
    times = np.asarray(times, dtype=float)
    times = np.where(np.isnan(times), np.inf, times)
    if np.any(times <= 0):
        raise ValueError("times to a target must be positive")
    shortest = times.min(axis=1, keepdims=True, initial=np.inf)
    reached = np.isfinite(times)
    return np.divide(times, shortest, out=np.full(times.shape, np.inf), where=reached)


def performance_profile(ratios: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """The share of workloads solved within tau times the shortest time: ``[W, ...] -> [T, ...]``.

    ``rho(tau) = |{w : r_w <= tau}| / W`` (Dolan & More 2002, section 2); NaN without workloads.
    """
    ratios, taus = np.asarray(ratios, dtype=float), np.asarray(taus, dtype=float)
    if not len(ratios):
        return np.full((len(taus), *ratios.shape[1:]), np.nan)
    return (ratios[None] <= taus.reshape(-1, *[1] * ratios.ndim)).mean(axis=1)


def integrated_profile(ratios: np.ndarray, up_to: float = 4.0) -> np.ndarray:
    """The area under a profile, from 0 to 1: ``[W, ...] -> [...]``.

    ``1 / (up_to - 1) int_1^up_to rho(tau) dtau`` (Dahl et al. 2023, the AlgoPerf benchmark score,
    with up_to = 4). rho is a step function, so this is exactly the mean over workloads of
    ``clip((up_to - r) / (up_to - 1), 0, 1)``: no grid of tau is involved.
    """
    ratios = np.asarray(ratios, dtype=float)
    if up_to <= 1:
        raise ValueError(f"up_to must exceed 1, the ratio of the fastest, not {up_to}")
    if not len(ratios):
        return np.full(ratios.shape[1:], np.nan)
    ratios = np.where(np.isnan(ratios), np.inf, ratios)
    return np.clip((up_to - ratios) / (up_to - 1), 0, 1).mean(axis=0)
