"""Teachers behind a server: asked for the likeliest ids of every token of the text, and not trusted."""

from flashstill.distill.served.answers import Said, checked
from flashstill.distill.served.client import KEY_VARIABLE, Server
from flashstill.distill.served.making import build_from_server, known_model

__all__ = ["KEY_VARIABLE", "Said", "Server", "build_from_server", "checked", "known_model"]
