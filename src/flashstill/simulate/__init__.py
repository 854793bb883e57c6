"""Discrete events of continuous batching: requests through replicas of an engine, step times from the cost model."""
