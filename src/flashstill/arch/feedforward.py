"""Feed-forward networks: dense, routed over experts, with shared experts beside them, or absent.

Symbols: d model width, f FFN width, E experts, k experts per token, s total width of shared experts.

    dense     m d f with m = 3 if gated, else 2
    latent    experts at a reduced width l < d: E m l f, plus 2 d l for the down and up projections
    routed    E m d f  +  d E of the router  +  m d s of shared experts  (+ d for the gate on them)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """A dense or routed FFN. experts = 0: dense; experts = 0 and width = 0: no FFN."""

    width: int
    """hidden width of the dense FFN, or of one expert"""
    gated: bool = True
    bias: bool = False
    experts: int = 0
    experts_per_token: int = 0
    shared_width: int = 0
    """total hidden width of the shared experts; 0 for none"""
    shared_gate: bool = False
    """a scalar gate on the shared experts"""
    router_bias: bool = False
    """the router has one learned bias per expert"""
    router_extra: int = 0
    """further parameters of the router"""
    dense_width: int = 0
    """hidden width of a dense FFN in parallel with the experts; 0 for none"""
    latent_width: int = 0
    """input and output width of the routed experts; 0 for the model width"""

    @property
    def matrices(self) -> int:
        """Number of matrices of one FFN."""
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
        """Parameters of the router and of the gate on shared experts; 0 for a dense FFN."""
        if not self.experts:
            return 0
        shared_gate = model_width if self.shared_gate else 0
        return model_width * self.experts + self.router_bias * self.experts + self.router_extra + shared_gate

    def always_parameters(self, model_width: int) -> int:
        """Parameters used by every token, excluding the routed experts; the whole FFN if it is dense."""
        if not self.experts:
            return self.expert_parameters(model_width)
        beside = self._one(self.shared_width, model_width) + self._one(self.dense_width, model_width)
        return self.router_parameters(model_width) + beside + 2 * model_width * self.latent_width

    def parameters(self, model_width: int, active: bool = False) -> int:
        """All parameters, or with `active` those used by one token; the router is included in both."""
        used = self.experts_per_token if active else self.experts
        return used * self.expert_parameters(model_width) + self.always_parameters(model_width)
