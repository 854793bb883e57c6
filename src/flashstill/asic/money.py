"""When a chip of one's own pays: present values of what it costs and saves, as closed forms over arrays.

    V          tokens a day, from the decision on;  r: interest, continuous;  t: years from the decision
    D, T       first service; one life of the hardware after it
    F          what is spent once, at its present value
    a e^-gt    dollars a year that a token a day costs on the alternative; g: how fast that falls during the service
    l          how fast the chip's tokens/s fall from model to model (ln of the successor ratio / life of a model)
    u          share of the time that the model's chips are there
    k          present value of the chips bought at D, per token a day        (SRAM, HBM: once for all their life)
    c          the same as dollars a year, at the cost of capital             (hard-wired: again with each model)
    w          dollars a year of power and building, per token a day
    m          dollars a year of masks for the next models, at the cost of capital
    saving     V (u a e^-(g+l)t - u w - c) - m    a year;  the fleet stops serving at the time s when it is used up
    net        -F - V k + integral of the saving from D to s, discounted at r

While the chips are being made the alternative serves in both cases, so that its rent cancels; the net is what the
decision is worth.  Fleets are counted in fractions of a machine.  The net never falls with V: a volume from which it is
positive is the break-even.  It depends on s, which depends on V: Dinkelbach's iteration finds it (1967).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.economics.draws import Values
from flashstill.units import DAYS_PER_YEAR, TOKENS_PER_MILLION
from flashstill.workload import Quantity

_STEPS, _HALVINGS = 60, 40
_CLOSE = 1.0 - 1e-9
_TINY, _LEAST = 1e-300, 1e-100
"""what a denominator is at least, and what counts as nothing"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Programme:
    """The terms above; numbers or arrays over draws. Dollars, years, shares a year."""

    once_usd: Quantity
    alternative_usd: Quantity
    price_fall: Quantity
    token_fall: Quantity
    served_ratio: Quantity
    bought_usd: Quantity
    replaced_usd: Quantity
    running_usd: Quantity
    rewiring_usd: Quantity
    start_years: Quantity
    service_years: Quantity
    interest: Quantity

    @property
    def _costs(self) -> Quantity:
        """Dollars a year while it serves, per token a day."""
        return self.served_ratio * self.running_usd + self.replaced_usd

    def stop_years(self, tokens_per_day: Quantity) -> Quantity:
        """When the alternative has become cheaper than to go on; at most the end of service."""
        costs = self._costs + self.rewiring_usd / tokens_per_day
        room = np.log(np.maximum(self.served_ratio * self.alternative_usd, _TINY) / np.maximum(costs, _TINY))
        fall = self.price_fall + self.token_fall
        end = self.start_years + self.service_years
        falling = room / np.maximum(fall, _TINY)
        return np.clip(falling, self.start_years, end)

    def _present(self, fall: Quantity, end: Quantity) -> Quantity:
        """Integral of e^-(fall + interest) t from the first service to `end`."""
        years, rate = end - self.start_years, fall + self.interest
        shrunk = np.maximum(rate * years, _TINY)
        return np.exp(-rate * self.start_years) * years * (-np.expm1(-shrunk) / shrunk)

    def _per_token(self, end: Quantity) -> Quantity:
        """Present value of what a token a day saves, rewiring apart."""
        gained = self.served_ratio * self.alternative_usd * self._present(self.price_fall + self.token_fall, end)
        return gained - self._costs * self._present(0.0, end) - self.bought_usd

    @property
    def alternative_present_usd(self) -> Quantity:
        """Present value of a token a day on the alternative, over the whole service."""
        end = self.start_years + self.service_years
        return self.alternative_usd * self._present(self.price_fall, end)

    def net_usd(self, tokens_per_day: Quantity) -> Quantity:
        """Present value of having decided for the chip."""
        end = self.stop_years(tokens_per_day)
        fixed = self.once_usd + self.rewiring_usd * self._present(0.0, end)
        return tokens_per_day * self._per_token(end) - fixed

    def break_even(self) -> Values:
        """Tokens a day from which the chip pays; infinite where it never does."""
        volume = np.asarray(np.inf)
        for _ in range(_STEPS):
            end = self.stop_years(volume)
            saved = np.asarray(self._per_token(end))
            fixed = self.once_usd + self.rewiring_usd * self._present(0.0, end)
            saves = saved > _LEAST
            found = np.where(saves, fixed / np.where(saves, saved, 1.0), np.inf)
            if np.array_equal(found, volume) or bool((found >= volume * _CLOSE).all()):
                return found
            volume = found
        return volume

    def _served_until(self, tokens_per_day: Quantity) -> Quantity:
        """When the fleet stops; where it never begins, the end of the service."""
        end = self.stop_years(tokens_per_day)
        return np.where(end > self.start_years, end, self.start_years + self.service_years)

    def _millions(self, end: Quantity) -> Quantity:
        """Present number of millions of tokens, of one a day, that are served by `end`."""
        return DAYS_PER_YEAR * self._present(self.token_fall, end) / TOKENS_PER_MILLION

    def usd_per_million(self, tokens_per_day: Quantity) -> tuple[Values, Values]:
        """Dollars per million tokens that the chip serves, all costs included, and of the same on the alternative.

        Until the fleet stops; where it never begins, over the whole service.
        """
        end = self._served_until(tokens_per_day)
        years, millions = self._present(0.0, end), self._millions(end)
        fixed = (self.once_usd + self.rewiring_usd * years) / tokens_per_day
        asic = self._over_served(fixed + self.bought_usd + self._costs * years, millions)
        gained = self.alternative_usd * self._present(self.price_fall + self.token_fall, end)
        return asic, np.asarray(gained / millions)

    def recurring_usd_per_million(self, tokens_per_day: Quantity) -> Values:
        """The chip's dollars per million tokens without design and masks: chips, power and building."""
        end = self._served_until(tokens_per_day)
        return self._over_served(self.bought_usd + self._costs * self._present(0.0, end), self._millions(end))

    def _over_served(self, usd: Quantity, millions: Quantity) -> Values:
        """Dollars over millions of tokens; infinite where each model is gone before its chips are there."""
        served = np.asarray(self.served_ratio * millions)
        serves = served > _LEAST
        return np.where(serves, usd / np.where(serves, served, 1.0), np.inf)

    def payback_years(self, tokens_per_day: Quantity) -> Values:
        """Years from the decision until what was saved exceeds what was spent; infinite where it never does."""
        low, high = (np.asarray(years) for years in (self.start_years, self.stop_years(tokens_per_day)))
        never = np.asarray(self.net_usd(tokens_per_day)) < 0.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            fixed = self.once_usd + self.rewiring_usd * self._present(0.0, middle)
            paid = np.asarray(tokens_per_day * self._per_token(middle) - fixed) >= 0.0
            low, high = np.where(paid, low, middle), np.where(paid, middle, high)
        return np.where(never, np.inf, high)
