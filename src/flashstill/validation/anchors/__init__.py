"""Published measurements: one module reads each kind of file, as operations or deployments that are priced."""
