"""Written by `python -m optimizers.stubs`."""

from typing import Literal

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .optimizer import Optimizer

class SGD(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class Normalised(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        eps: float = 1e-08,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class Momentum(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        form: Literal["velocity", "heavy_ball", "average"] = "velocity",
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class Nesterov(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        form: Literal["velocity", "heavy_ball", "average", "average_ahead"] = "velocity",
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class AdaGrad(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        *,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
        initial_accumulator: float = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class RMSProp(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        *,
        weight_decay: float = 0.0,
        decay: float = 0.99,
        eps: float = 1e-08,
        centred: bool = False,
        momentum: float = 0.0,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class Adam(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        bias_correction: bool = True,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class AdamW(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        bias_correction: bool = True,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class AMSGrad(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        bias_correction: bool = True,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class AdaMax(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.002,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class NAdam(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.002,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class RAdam(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-08,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class Lion(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.0001,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.99,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        betas: tuple[float, float] | None = None,
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

class Muon(Optimizer):
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        ns_a: float = 3.4445,
        ns_b: float = -4.775,
        ns_c: float = 2.0315,
        eps: float = 1e-07,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original",
        exclude: str = "",
        adamw_lr_ratio: float = 1.0,
        adamw_beta1: float = 0.9,
        adamw_beta2: float = 0.999,
        adamw_eps: float = 1e-08,
        maximize: bool = False,
        clip_norm: float | None = None,
        weight_decay_on: Literal["all", "weights"] = "all",
        gradient: Literal["autograd", "numeric"] = "autograd",
        path: Literal["auto", "eager", "compiled"] = "auto",
        capturable: bool | None = None,
        differentiable: bool | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None: ...

OPTIMIZERS: dict[str, type[Optimizer]]
