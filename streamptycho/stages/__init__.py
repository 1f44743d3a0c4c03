"""The pipeline: what each service does, and how the services are put together."""
