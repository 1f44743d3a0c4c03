"""What can be wrong with a simulated instrument."""


class SimulationError(ValueError):
    """A simulation that cannot be computed as configured: says what was expected and what to change."""
