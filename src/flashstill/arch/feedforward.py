"""Feed-forward networks: dense, routed over experts, with shared experts beside them, or absent.

Symbols: d model width, f FFN width, E experts, k experts per token, s total width of shared experts.

    dense     m d f with m = 3 if gated, else 2
    latent    experts that work in a width l < d: E m l f, and 2 d l of the projections into it and back
    routed    E m d f  +  d E of the router  +  m d s of shared experts  (+ d for the gate on them)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """A dense or routed FFN. experts = 0: dense; experts = 0 and width = 0: the block has none."""

    width: int
    """of the dense FFN, or of one expert"""
    gated: bool = True
    bias: bool = False
    experts: int = 0
    experts_per_token: int = 0
    shared_width: int = 0
    """total width of the experts that every token passes; 0 for none"""
    shared_gate: bool = False
    """a scalar gate on the shared experts"""
    router_bias: bool = False
    """one learned number for each expert"""
    router_extra: int = 0
    """further parameters of the router"""
    dense_width: int = 0
    """a dense FFN beside the experts; 0 for none"""
    latent_width: int = 0
    """width in which the routed experts work; 0 for the model's"""

    @property
    def matrices(self) -> int:
        """Matrices of one FFN."""
        return 3 if self.gated else 2

    def expert_matrices(self, model_width: int) -> int:
        """Weights of one expert, or of the dense FFN, without biases."""
        return self.matrices * (self.latent_width or model_width) * self.width

    def expert_parameters(self, model_width: int) -> int:
        """Weights and biases of one expert, or of the dense FFN."""
        return self._one(self.width, self.latent_width or model_width)

    def _one(self, ffn_width: int, model_width: int) -> int:
        if not ffn_width:
            return 0
        biases = self.bias * ((self.matrices - 1) * ffn_width + model_width)
        return self.matrices * model_width * ffn_width + biases

    def router_parameters(self, model_width: int) -> int:
        """Router of the experts and gate of the shared ones; 0 for a dense FFN."""
        if not self.experts:
            return 0
        shared_gate = model_width if self.shared_gate else 0
        return model_width * self.experts + self.router_bias * self.experts + self.router_extra + shared_gate

    def always_parameters(self, model_width: int) -> int:
        """What every token meets besides the routed experts; the whole FFN if there are none."""
        if not self.experts:
            return self.expert_parameters(model_width)
        beside = self._one(self.shared_width, model_width) + self._one(self.dense_width, model_width)
        return self.router_parameters(model_width) + beside + 2 * model_width * self.latent_width

    def parameters(self, model_width: int, active: bool = False) -> int:
        """All weights, or with `active` those that one token meets; the router counts in both."""
        used = self.experts_per_token if active else self.experts
        return used * self.expert_parameters(model_width) + self.always_parameters(model_width)
