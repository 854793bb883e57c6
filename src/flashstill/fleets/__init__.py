"""Fleet sizing: the cheapest replicas that keep latency bounds under a trace, by closed form, proved by simulation."""
