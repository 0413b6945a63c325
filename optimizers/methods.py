"""Each rule as an optimizer."""

from . import rules
from .optimizer import Optimizer


class SGD(Optimizer):
    rule = rules.SGD


class Normalised(Optimizer):
    rule = rules.Normalised


class Momentum(Optimizer):
    rule = rules.Momentum


class Nesterov(Optimizer):
    rule = rules.Nesterov


class AdaGrad(Optimizer):
    rule = rules.AdaGrad


class RMSProp(Optimizer):
    rule = rules.RMSProp


class Adam(Optimizer):
    rule = rules.Adam


class AdamW(Optimizer):
    rule = rules.AdamW


class AMSGrad(Optimizer):
    rule = rules.AMSGrad


class AdaMax(Optimizer):
    rule = rules.AdaMax


class NAdam(Optimizer):
    rule = rules.NAdam


class RAdam(Optimizer):
    rule = rules.RAdam


class Lion(Optimizer):
    rule = rules.Lion


BY_RULE = {method.rule: method for method in Optimizer.__subclasses__()}
OPTIMIZERS: dict[str, type[Optimizer]] = {n: BY_RULE[rule] for n, rule in rules.RULES.items()}
