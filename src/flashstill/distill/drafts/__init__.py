"""Drafts for speculative decoding: a head on the target's hidden states; its training, and directories for engines."""

from flashstill.distill.drafts.directories import check_target, is_eagle, load_eagle, save_eagle
from flashstill.distill.drafts.drafting import EagleDrafter
from flashstill.distill.drafts.eagle import Eagle, new_eagle
from flashstill.distill.drafts.training import DraftPass

__all__ = ["DraftPass", "Eagle", "EagleDrafter", "check_target", "is_eagle", "load_eagle", "new_eagle", "save_eagle"]
