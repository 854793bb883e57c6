"""Published measurements; one module per kind of file turns rows into operations or deployments to price."""
