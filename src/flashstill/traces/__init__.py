"""Read what people have of the requests of a service: public traces, and logs of engines and load generators."""
