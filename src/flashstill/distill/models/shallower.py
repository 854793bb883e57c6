"""Copies of a model with fewer blocks, proven to be what the blocks were in the whole model.

    1  the configuration says of the remaining layers what it said of them before (arch/adapter/per_layer.py);
    2  a model of that configuration, built without memory, has in each block the modules, shapes and settings of the
       block that comes there: otherwise other ways to say it are tried, and the copy refused if none is right;
    3  its logits on a short text equal those of the whole model whose other blocks pass on what they get.

So a copy that is saved and loaded again has the logits that it had before.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.arch.adapter.per_layer import remaining, rescaled, variants
from flashstill.arch.adapter.sizes import kind
from flashstill.distill.models.block_settings import Difference, Settings, differences, is_index, settings_of
from flashstill.distill.models.layers import Place, place_of
from flashstill.distill.models.rebuild import check_initialisation, configured, on_meta, with_tensors
from flashstill.errors import BadInput, UnsupportedArchitecture, first_line

MOST_TRIALS, TURNS, MOST_NEIGHBOURS = 800, 4, 64
PROBE_TOKENS, PROBE_ROWS = 24, 2
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
IN_HALF = 0.02


class InexpressibleLayers(UnsupportedArchitecture):
    """A family's configuration cannot say that only these layers remain. nearest: a choice of as many that it can say,
    empty if none was found."""

    def __init__(self, message: str, nearest: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.nearest = list(nearest)


def keep_layers(model: Any, kept: Sequence[int]) -> Any:
    """A copy of `model` with only the blocks `kept` (ascending indices); the original is unchanged.

    Raises UnsupportedArchitecture, with the nearest choice, if its configuration cannot say so.
    """
    place, kept = place_of(model), list(kept)
    config = shallower_config(model, kept)
    empty = on_meta(type(model), config)
    check_initialisation(empty)
    tensors = _kept_tensors(model, place, kept, empty.state_dict())
    student = with_tensors(type(model), config, tensors, model.dtype)
    student.generation_config = model.generation_config
    if model.device.type != "meta":
        student = student.to(model.device)
        _prove(model, student, kept)
    return student


def shallower_config(model: Any, kept: Sequence[int]) -> Any:
    """The configuration of `keep_layers`, proven block by block; UnsupportedArchitecture if there is none.

    Where the plain change is not right, fields are changed one after another, each time the one after which least
    differs.
    """
    place = place_of(model)
    depth = len(place.blocks)
    if not kept or list(kept) != sorted({*kept}) or not 0 <= kept[0] <= kept[-1] < depth:
        raise BadInput(f"layers {list(kept)} are not ascending numbers from 0 to {depth - 1}")
    blocks = [settings_of(block) for block in place.blocks]
    plain = remaining(model.config.to_dict(), depth, kept)
    lists = [name for name, content in plain.items() if isinstance(content, list)]
    changes, least = plain, _Trial(model, blocks, kept, plain)
    first, trials = least, 1
    for turn in range(TURNS):
        proposals = [{other: content for other, content in plain.items() if other != name} for name in lists]
        options = variants(model.config.to_dict(), len(kept), _alike([blocks[index] for index in kept]))
        more = itertools.chain(rescaled(model.config.to_dict(), least.ratio) if least.ratio else (), options)
        tried = itertools.chain(proposals if not turn else (), ({**changes, **each} for each in more))
        best, chosen = least, changes
        for each in tried:
            if (best.config is not None and not best.differences) or trials >= MOST_TRIALS:
                break
            trial, trials = _Trial(model, blocks, kept, each), trials + 1
            if trial.count < best.count:
                best, chosen = trial, each
        if best is least:
            break
        least, changes = best, chosen
    if least.config is not None and not least.differences:
        return least.config
    nearest = _nearest(model, blocks, kept, first.built)
    advice = f"the nearest choice that it can say is {nearest}" if nearest else "keep other layers, or more"
    raise InexpressibleLayers(
        f"the configuration of a {kind(model.config)} cannot say that of {depth} layers only {list(kept)} remain"
        f" ({first.reason}); {advice}",
        nearest,
    )


class _Trial:
    """A changed configuration: the blocks that it makes, and what differs from those to be kept."""

    def __init__(self, model: Any, blocks: Sequence[Settings], kept: Sequence[int], changes: Mapping[str, Any]) -> None:
        self.config: Any = None
        self.built: list[Settings] = []
        self.differences: list[Difference] = []
        try:
            self.config = configured(model.config, changes)
            self.built = [settings_of(block) for block in place_of(on_meta(type(model), self.config)).blocks]
        except BadInput as error:
            self.config, self.reason, self.count, self.ratio = None, str(error), 10**9, None
            return
        if len(self.built) != len(kept):
            self.config, self.reason, self.count, self.ratio = None, f"it has {len(self.built)} layers", 10**9, None
            return
        self.differences = [
            each
            for place, layer in enumerate(kept)
            for each in differences(blocks[layer], self.built[place], layer, place, kept, len(blocks))
        ]
        self.count = len(self.differences)
        self.reason = self.differences[0].sentence if self.differences else ""
        floats = [(each.old, each.new) for each in self.differences if type(each.old) is type(each.new) is float]
        self.ratio = floats[0][0] / floats[0][1] if floats and floats[0][1] else None


def _alike(settings: Sequence[Settings]) -> list[list[int]]:
    """Places of the blocks that are made alike."""
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(settings):
        plain = {key: value for key, value in each.items() if not is_index(key[1], value)}
        groups.setdefault(repr(sorted(plain.items(), key=repr)), []).append(place)
    return list(groups.values())


def _nearest(model: Any, blocks: Sequence[Settings], kept: Sequence[int], built: Sequence[Settings]) -> list[int]:
    """A choice of as many layers that can be said, with as many layers of `kept` as possible; empty if none is found.

    Tried are the choice that fits what was built, and those in which one layer is another.
    """
    others = [index for index in range(len(blocks)) if index not in kept]
    swaps = sorted((abs(gone - new), gone, new) for gone in kept for new in others)
    fitting = [choice] if (choice := _fitting(blocks, kept, built)) else []
    one_other = (sorted({*kept, new} - {gone}) for _, gone, new in swaps)
    for choice in itertools.islice(itertools.chain(fitting, one_other), MOST_NEIGHBOURS):
        trial = _Trial(model, blocks, choice, remaining(model.config.to_dict(), len(blocks), choice))
        if trial.config is not None and not trial.differences:
            return choice
    return []


def _fitting(blocks: Sequence[Settings], kept: Sequence[int], built: Sequence[Settings]) -> list[int]:
    """The choice that fits the blocks that were built and has the most layers of `kept`; empty if none does."""
    best: dict[int, tuple[int, list[int]]] = {-1: (0, [])}  # last layer chosen -> (layers of kept, choice)
    for place, there in enumerate(built):
        following: dict[int, tuple[int, list[int]]] = {}
        for layer, settings in enumerate(blocks):
            before = [each for last, each in best.items() if last < layer]
            if before and not differences(settings, there, layer, place, (), len(blocks)):
                shared, choice = max(before, key=lambda each: each[0])
                following[layer] = (shared + (layer in kept), [*choice, layer])
        best = following
    choices = [choice for _, choice in sorted(best.values(), key=lambda each: -each[0]) if len(choice) == len(kept)]
    return choices[0] if choices else []


def _kept_tensors(model: Any, place: Place, kept: Sequence[int], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the copy by name: those of the kept blocks under their new numbers, and the others, of which those
    with a part for each layer lose the parts of the other layers."""
    own, prefix, depth = model.state_dict(), f"{place.path}.", len(place.blocks)
    tensors: dict[str, Tensor] = {}
    for name, like in wanted.items():
        source = name
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            source = f"{prefix}{kept[int(number)]}.{rest}"
        if source in own:
            tensors[name] = _cut(own[source], like.shape, depth, kept)
    return tensors


def _cut(tensor: Tensor, shape: torch.Size, depth: int, kept: Sequence[int]) -> Tensor:
    for axis, (old, new) in enumerate(zip(tensor.shape, shape, strict=False)):
        if old != new and old % depth == 0 and old // depth * len(kept) == new:
            rows = [index * (old // depth) + part for index in kept for part in range(old // depth)]
            tensor = tensor.index_select(axis, torch.tensor(rows, device=tensor.device))
    return tensor


@torch.no_grad()
def _prove(model: Any, student: Any, kept: Sequence[int]) -> None:
    """UnsupportedArchitecture if the copy's logits differ from those of the model whose other blocks do nothing."""
    from flashstill.distill.models.skipping import skipped

    tokens = _probe_tokens(model)
    was_training = model.training
    model.eval()
    try:
        with skipped(model, [index for index in range(len(place_of(model).blocks)) if index not in kept]):
            expected = model(input_ids=tokens, use_cache=False).logits.float()
        found = student(input_ids=tokens, use_cache=False).logits.float()
    except Exception as error:  # a block that needs what another, now missing one leaves for it
        raise UnsupportedArchitecture(
            f"the layers of a {kind(model.config)} depend on one another: with only {list(kept)} it cannot run"
            f" ({first_line(error)}); keep layers that refer to each other together"
        ) from error
    finally:
        model.train(was_training)
    if not bool(torch.isfinite(expected).all()):
        return  # weights that are not finite prove nothing, and are found where they are used
    change = float((expected - found).abs().max()) / max(float(expected.abs().max()), 1e-9)
    if not change <= TOLERANCE.get(model.dtype, IN_HALF):
        raise UnsupportedArchitecture(
            f"the layers of a {kind(model.config)} depend on one another: with only {list(kept)} its logits change by"
            f" {change:.2g} of the largest; keep layers that refer to each other together"
        )


def _probe_tokens(model: Any) -> Tensor:
    """Token ids [B, L] that every table of the vocabulary knows (some models have a second, smaller one)."""
    tables = [each.num_embeddings for each in model.modules() if isinstance(each, nn.Embedding)]
    rows = min(each for each in tables if 2 * each >= max(tables))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, rows, (PROBE_ROWS, PROBE_TOKENS), generator=generator).to(model.device)
