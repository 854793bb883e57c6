"""Teachers behind an inference server: request top-k log-probabilities for every token, and validate the responses."""

from flashstill.distill.teachers.served.answers import TokenScores, checked
from flashstill.distill.teachers.served.client import Server
from flashstill.distill.teachers.served.making import build_from_server, known_model
from flashstill.distill.teachers.served.online import ServedTeacher
from flashstill.distill.teachers.served.rollouts import ServedStudent
from flashstill.servers import KEY_VARIABLE

__all__ = [
    "KEY_VARIABLE",
    "ServedStudent",
    "ServedTeacher",
    "Server",
    "TokenScores",
    "build_from_server",
    "checked",
    "known_model",
]
