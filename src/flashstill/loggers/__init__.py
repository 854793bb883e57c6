"""Metrics of a training for TensorBoard, trackio and Weights & Biases, each written by a process of its own.

A logger that fails, hangs or fills the disk leaves the training as it is: the metrics go to it through a pipe that the
training never waits for, and its random draws, threads and signals are not those of the training.

    training/LOGGER/          what it keeps (events; trackio's data base; wandb's runs)
    training/LOGGER/run.json  name and id of the run, the same when it is resumed
    training/LOGGER/step      the last step it was given; a resumed run gives it none twice
    training/LOGGER/log.txt   what it printed
"""

from flashstill.loggers.names import check_loggers
from flashstill.loggers.process import Logs, logs_of

__all__ = ["Logs", "check_loggers", "logs_of"]
